"""Every registered family from a folder on disk: pixels, prompts, `load` and `tokenprune run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES
from footage import footage
from running import read
from test_families import everywhere
from traces import remarks
from weighted import saved

from tokenprune import attach
from tokenprune.adapters import adapt
from tokenprune.cli.main import main
from tokenprune.loading.checkpoint import load
from tokenprune.loading.media import Medium
from tokenprune.loading.processor import Processor

FAST = ["device=cpu", "task=tinyvqa", "samples=2", "frames=8", "max_new_tokens=2"]


@everywhere
def test_a_prompt_is_what_the_model_takes(kind: str, tmp_path: Path) -> None:
    """Rows of its placeholders, tokens per frame; videos of unequal length where it takes them."""
    model, processor = load(str(saved(kind, tmp_path)), device="cpu")
    preparation, adapter = processor.preparation, adapt(model)
    lengths = (3, 5) if preparation.ragged else (4, 4)
    clips = [footage(frames, 40, 50 + 10 * frames) for frames in lengths]
    apart = [number * 0.5 for number in range(max(lengths))]
    media = [Medium(clip, apart[: len(clip)]) for clip in clips]
    inputs = processor.encode([(media[0], "What is it?"), (media[1], "Where, and when?")])
    videos = [preparation.video(*clip.shape[:3]) for clip in clips]
    rows = (inputs["input_ids"] == processor.video_token_id).sum(1).tolist()
    assert rows == [preparation.rows(video) for video in videos]
    assert rows == [len(adapter.pattern(video)) for video in videos]
    stock: Any = model
    with attach(model, "random", {"random.keep": 0.5}) as session:
        made = stock.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert made.shape[1] == inputs["input_ids"].shape[1] + 2
    for number, video in enumerate(videos):
        report = session.report[number]
        assert (report.frames, report.cells) == (video.frames, video.cells)
        assert 0.4 < report.layer_average_ratio < 0.6


@everywhere
def test_a_run(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, out = saved(kind, tmp_path / "model"), tmp_path / "out"
    layer = f"fastv.layer={FAMILIES[kind].layers[0]}"  # reads one that sees all frames
    words = [f"model={home}", f"out={out}", "strategy=fastv", layer, "keep=0.5", *FAST]
    assert main(["run", *words, "batch_size=2"]) == 0, capsys.readouterr().err
    summary, lines = read(out)
    assert len(lines) == 2
    ratio = summary["systems"]["strategy"]["layer_average_ratio"]
    assert 0.4 < ratio < 0.6
    assert "report.html was not made" not in capsys.readouterr().err
    assert pictured(out) == 2


def pictured(folder: Path) -> int:
    """How many samples of a run's page have pictures."""
    return (folder / "report.html").read_text(encoding="utf-8").count("--frames:url(")


SEVERAL = '''
import torch
from footage import footage
from tokenprune.loading.media import Medium
from tokenprune.tasks import Label, Sample, Task


class Several(Task, name="several"):
    """A picture, then two videos of different length and size; and one video alone."""

    def __init__(self, *, samples=None, frames, seed):
        self.frames = frames

    def __len__(self):
        return 2

    def label(self, index):
        return Label(f"several-{index}", "several", "What is in both?", "grey")

    def __getitem__(self, index):
        long, short = footage(self.frames, 40, 60), footage(2, 50, 40)
        media = (footage(1, 48, 40)[0], Medium(long), Medium(short, (0.0, 2.0)))
        return Sample(**self.label(index)._asdict(), frames=long, media=() if index else media)

    def fingerprint(self):
        return {"task": "several", "frames": self.frames}
'''


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_a_run_on_several_videos_and_images(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images are kept whole, or lose as much as videos where that is asked for."""
    home, plugin = saved(kind, tmp_path / "model"), tmp_path / "several.py"
    plugin.write_text(SEVERAL)
    words = [f"model={home}", f"plugin={plugin}", "strategy=random", "keep=0.5", "batch_size=2"]
    words += ["task=several", "frames=4", "device=cpu", "max_new_tokens=2"]
    full = {}
    for images in ("false", "true"):
        out = tmp_path / images
        with remarks():
            code = main(["run", *words, f"images={images}", f"out={out}"])
        assert code == 0, capsys.readouterr().err
        assert pictured(out) == 2
        _, lines = read(out)
        tokens = [line["random"]["tokens"] for line in lines]
        assert [one["layer_average_ratio"] for one in tokens] == pytest.approx([0.5] * 2, abs=0.03)
        full[images] = [one["full"] for one in tokens]
    preparation = Processor.load(str(home)).preparation
    long, short = (preparation.video(*shape) for shape in ((4, 40, 60), (2, 50, 40)))
    assert full["false"] == [long.tokens + short.tokens, long.tokens]
    assert full["true"][0] > full["false"][0] and full["true"][1] == full["false"][1]


def test_a_family_without_images_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = saved("llava_onevision", tmp_path / "model")
    words = [f"model={home}", "strategy=random", f"out={tmp_path / 'out'}", *FAST]
    assert main(["run", *words, "images=true"]) == 2
    assert "leave out images" in capsys.readouterr().err
