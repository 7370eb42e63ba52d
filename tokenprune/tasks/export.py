"""A task as files: one video per sample and an annotations file, readable back as
`task=files:PATH`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace
from rich.console import Console
from rich.progress import track
from torch import Tensor

import tokenprune
from tokenprune import tasks
from tokenprune.storage import whole_folder
from tokenprune.tasks import Sample

ANNOTATIONS, VIDEOS = "annotations.json", "videos"
RATE = 8  # frames per second


def export(name: str, out: str, samples: int, frames: int, size: int, seed: int) -> str:
    """Writes the samples, all of them or none; returns what to tell the user.

    Raises TokenpruneError, OSError.
    """
    settings = {"samples": samples, "frames": frames, "size": size, "seed": seed}
    task = tasks.kind(name)(**settings)
    with whole_folder(out) as (draft, final):
        (draft / VIDEOS).mkdir()
        bar = track(range(len(task)), f"{name}", console=Console(stderr=True))
        whole = {
            "task": task.name,
            "generator": {**settings, "split": "test", "tokenprune": tokenprune.__version__},
            "samples": [_write(draft, task[index]) for index in bar],
        }
        (draft / ANNOTATIONS).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return (
        f"{len(task)} samples of {task.name} in {final}. To evaluate on them:\n"
        f"tokenprune run strategy=dycoke+dytok task=files:{final / ANNOTATIONS}"
    )


def _write(folder: Path, sample: Sample) -> dict[str, Any]:
    """The sample's video in the folder, and its entry."""
    video = f"{VIDEOS}/{sample.id}.mp4"
    write_video(folder / video, sample.frames)
    return {
        "id": sample.id,
        "video": video,
        "question": sample.question,
        **({"options": list(sample.options)} if sample.options else {}),
        "answer": sample.answer,
        "category": sample.category,
        "metric": sample.metric,
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
