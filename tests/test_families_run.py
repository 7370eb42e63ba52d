"""Every registered family from a folder on disk: pixels, prompts, `load` and `tokenprune run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES
from footage import footage
from running import read
from test_families import everywhere
from weighted import saved

from tokenprune import attach
from tokenprune.adapters import adapt
from tokenprune.cli.main import main
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import Medium

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
