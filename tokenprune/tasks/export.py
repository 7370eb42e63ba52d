"""A task as files: one video per sample and an annotations file, readable back as
`task=files:PATH`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace
from rich.console import Console
from rich.progress import track
from torch import Tensor

import tokenprune
from tokenprune import tasks
from tokenprune.errors import TaskError
from tokenprune.storage import whole_folder
from tokenprune.tasks import Sample, Task
from tokenprune.tasks.metrics import METRICS

ANNOTATIONS, VIDEOS = "annotations.json", "videos"
RATE = 8  # frames per second


def export(
    name: str, out: str, *, samples: int, frames: int, size: int | None = None, seed: int = 0
) -> str:
    """Writes at most `samples` samples of a task, all of them or none; returns what to tell the
    user.

    Raises TokenpruneError, which says of a sample that cannot be a file why not, and OSError.
    """
    settings: dict[str, Any] = {"frames": frames, "seed": seed}
    if size is not None:
        settings["size"] = size
    task = _task(name, samples, settings)
    number = min(samples, len(task))
    with whole_folder(out) as (draft, final):
        (draft / VIDEOS).mkdir()
        written = [
            _write(draft, index, task[index])
            for index in track(range(number), name, console=Console(stderr=True))
        ]
        generator = {**settings, "samples": number, "tokenprune": tokenprune.__version__}
        whole = {"task": task.name, "generator": generator, "samples": written}
        (draft / ANNOTATIONS).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    said = [f"{number} samples of {task.name} in {final}. To evaluate on them:"]
    said.append(f"tokenprune run strategy=dycoke+dytok task=files:{final / ANNOTATIONS}")
    if type(task).score is not Task.score:
        said.append(f"{task.name} scores answers by code of its own; files have exact_match.")
    return "\n".join(said)


def _task(name: str, samples: int, settings: dict[str, Any]) -> Task:
    """The task, of its own number of samples unless it makes as many as it is asked for."""
    named = ":" not in name
    if "size" in settings and not (named and tasks.takes(tasks.kind(name), "size")):
        raise TaskError(f"the videos of {name} have a size of their own: leave size= out")
    if named:
        made: Any = tasks.kind(name)
        return made(samples=samples, **settings)
    return tasks.build(name, samples=None, **settings)


def _write(folder: Path, index: int, sample: Sample) -> dict[str, Any]:
    """The sample's video in the folder, and its entry."""
    if not sample.answer.strip():
        raise TaskError(f"sample {sample.id} has no answer that is known, so no file can score it")
    if not len(sample.frames):
        raise TaskError(f"sample {sample.id} has no frames, so it cannot be a video")
    height, width = sample.frames.shape[1:3]
    if height % 2 or width % 2:
        raise TaskError(
            f"sample {sample.id} has frames of {width}x{height}, and H.264 stores even sizes only"
        )
    plain = re.sub(r"[^\w.-]+", "-", sample.id)
    file = plain if plain == sample.id else f"{index:05d}-{plain}"  # one for each, in one folder
    video = f"{VIDEOS}/{file}.mp4"
    write_video(folder / video, sample.frames)
    known = sample.options or sample.metric in METRICS
    return {
        "id": sample.id,
        "video": video,
        "question": sample.question,
        **({"options": list(sample.options)} if sample.options else {}),
        "answer": sample.answer,
        "category": sample.category,
        **({"metric": sample.metric} if known else {}),
        **({"group": sample.group} if sample.group else {}),
        "frames": len(sample.frames),
        "evidence": list(sample.evidence),
    }


def write_video(path: Path, frames: Tensor) -> None:
    """Frames uint8 [f h w 3] as H.264 in 4:2:0, which every player plays, at a quality that keeps
    small shapes.
    """
    quality = {"crf": "10", "preset": "medium", "threads": "1"}
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options=quality)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # said, because players guess the matrix from the size of the picture
        stream.codec_context.colorspace, stream.codec_context.color_range = (
            Colorspace.SMPTE170M,
            ColorRange.MPEG,
        )
        for frame in frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
