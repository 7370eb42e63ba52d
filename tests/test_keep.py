"""`keep=` in run and show; contexts that do not hold a prompt; notes about embedded models; names
of tasks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import write_video
from omegaconf import OmegaConf
from transformers import Qwen2Config

from tokenprune import checkpoints, registry, tasks
from tokenprune.bench.config import parse_bench
from tokenprune.bench.plan import plan_bench
from tokenprune.bench.shapes import shape_configuration
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError, TaskError
from tokenprune.evaluation.config import parse
from tokenprune.evaluation.extent import check_context, seen_by
from tokenprune.evaluation.retention import retaining
from tokenprune.loading.checkpoint import configuration
from tokenprune.strategy import Extent
from tokenprune.study.config import CellConfig
from tokenprune.tasks import export

FAST = ["device=cpu", "frames=8", "max_new_tokens=3", "limit=2"]


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_a_run_keeps_what_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mean over layers, whatever the strategy's own option means; and both numbers are written
    down.
    """
    out = tmp_path / "out"
    assert (
        main(["run", "strategy=fastv+dytok", "keep=0.5", f"out={out}", "assistant=nano", *FAST])
        == 0
    )
    summary = json.loads((out / "summary.json").read_text())
    assert summary["keep"] == 0.5 and summary["options"] == {}
    assert summary["systems"]["strategy"]["layer_average_ratio"] == pytest.approx(0.5, abs=0.01)
    config: Any = OmegaConf.load(out / "config.yaml")
    assert config.run.keep == 0.5
    assert config.systems.strategy.fastv.drop == pytest.approx(0.75)
    said = " ".join(capsys.readouterr().out.split())
    left = 100 * summary["systems"]["strategy"]["layer_average_ratio"]
    assert (
        f"keep=0.5 was asked for; {left:.1f} % of the visual tokens were left, mean over LLM "
        "layers." in said
    )
    assert "tiny and nano are embedded models: these figures" in said


def test_show_resolves_keep(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "strategy=fastv", "fastv.layer=3", "keep=0.75"]) == 0
    shown = capsys.readouterr().out
    assert "layer=3" in shown and "drop=0.5" in shown, (
        "three of six layers see everything, the others a half"
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ("strategy=visionzip", "visionzip.keep=0.5"),
            "keep= sets visionzip.keep: leave visionzip.keep= out",
        ),
        (
            ("strategy=fastv+dytok", "fastv.drop=0.2"),
            "keep= sets fastv.drop: leave fastv.drop= out",
        ),
        (
            ("strategy=none",),
            "keep= sets the budget of one strategy, and none has no budget: leave keep= out",
        ),
        (("strategy=dycoke+fastv",), "and dycoke+fastv has dycoke and fastv: leave keep= out"),
        (("strategy=dycoke", "keep=0.1"), "keep=0.1: dycoke retains"),
        (("strategy=fastv", "keep=0"), "keep=0 is not a fraction above 0 and up to 1"),
        (("strategy=fastv", "keep=30"), "write keep=0.3"),
        (
            ("strategy=fastv", "keep=much"),
            "keep=much is not a number: write keep=0.25",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "show"])
def test_a_keep_that_cannot_be(
    command: str,
    words: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "tokenprune.evaluation.run.load", lambda *_: pytest.fail("weights were read")
    )
    told = [*words, *(["keep=0.4"] if not any(word.startswith("keep=") for word in words) else [])]
    assert reason in fails(capsys, command, *told)
    assert not list(tmp_path.iterdir())


def test_keep_leaves_other_options_alone() -> None:
    pipeline, extent = (
        registry.build("fastv+dytok", {"fastv.layer": 1, "dytok.cap": 9}),
        Extent(8, 36, 6),
    )
    found = retaining(pipeline, 0.5, extent, ["fastv.layer", "dytok.cap"])
    assert found == pipeline.retaining(0.5, extent)


# ---- contexts


def test_the_most_frames_that_fit_are_named() -> None:
    seen = seen_by(configuration("tiny"))
    check_context("tiny", seen, 110, 50, 85)  # 110 x 36 + 1 + 50 + 85 = 4,096
    with pytest.raises(ConfigError) as caught:
        check_context("tiny", seen, 110, 50, 86)
    said = str(caught.value)
    assert "frames=110 are 3,960 visual tokens (36 each)" in said and "need 4,097 positions" in said
    assert (
        "the context of tiny holds 4,096: write frames=109 or fewer, or max_new_tokens=85" in said
    )
    with pytest.raises(ConfigError, match=r"4,096: write frames=109 or fewer$"):
        check_context("tiny", seen, 130, 50, 86)
    with pytest.raises(ConfigError, match=r"write a smaller max_new_tokens=$"):
        check_context("tiny", seen, 8, 50, 4096)


@pytest.mark.parametrize(("frames", "fits"), [(167, True), (168, False)])
def test_llava_onevision_takes_167_frames(frames: int, fits: bool) -> None:
    seen = seen_by(shape_configuration("shape:llava-onevision-0.5b"))
    assert isinstance(seen.config.get_text_config(), Qwen2Config)
    if fits:
        check_context("it", seen, frames, 25, 10)
    else:
        with pytest.raises(
            ConfigError, match=r"need 32,964 positions, and .* holds 32,768: write frames=1"
        ):
            check_context("it", seen, frames, 25, 10)


def test_no_full_model_runs_beyond_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before weights are read; a video that is shorter than what was asked for fits."""
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "clip.mp4"
    export.write_video(clip, torch.zeros(117, 32, 32, 3, dtype=torch.uint8))
    study = tmp_path / "study.yaml"
    study.write_text("strategies: [{spec: random}]\nretentions: [0.5]\nallocator: null\nlimit: 1\n")
    for loader in (
        "tokenprune.evaluation.run.load",
        "tokenprune.bench.plan.load",
        "tokenprune.study.runner.load",
    ):
        monkeypatch.setattr(loader, lambda *_: pytest.fail("weights were read"))
    limit = "the context of tiny holds 4,096: write frames=1"
    for words in (
        ["run", "strategy=uniform", f"video={clip}", "question=What?", "frames=140"],
        ["run", "strategy=uniform", "frames=120", "limit=1"],
        ["study", str(study), "frames=120", "workers=1"],
        ["sweep", "strategy=uniform", "keep=0.5", "frames=120", "limit=1", "workers=1"],
        ["bench", "strategy=uniform", "frames=120", "out=bench"],
    ):
        assert limit in fails(capsys, *words), words
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.jsonl"))
    plan_bench(parse_bench(["strategy=uniform", "frames=100", "out=bench"]))


def test_a_long_question_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_video(tmp_path / "clip.mp4", codec="libx264", frames=8)
    lines = [
        {"id": str(n), "video": str(clip), "question": "What moves " * n + "?", "answer": "it"}
        for n in (1, 2000)
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = [
        "run",
        "strategy=none",
        f"task=files:{tmp_path / 'x.jsonl'}",
        *FAST[:-1],
        f"out={tmp_path / 'out'}",
    ]
    assert "and the context of tiny holds 4,096" in fails(capsys, *words)
    assert main([*words, "limit=1"]) == 0, "only what is asked counts"


# ---- notes, defaults and names


def test_the_note_names_the_models_that_ran() -> None:
    assert (
        checkpoints.note("nano", None)
        == checkpoints.note("nano", "nano")
        != checkpoints.note("tiny", None)
    )
    assert str(checkpoints.note("nano", None)).startswith("nano is an embedded model: ")
    assert str(checkpoints.note("a/hub-id", "nano")).startswith("nano is an embedded model: ")
    assert str(checkpoints.note("tiny", "nano")).startswith("tiny and nano are embedded models: ")
    assert checkpoints.note("a/hub-id", None) is None


def test_frames_of_a_benchmark_are_lmms_evals() -> None:
    for task, frames in (("lmms:videomme", 32), ("tinyvqa", 16), ("files:x.json", 16)):
        assert (
            parse(["strategy=none", f"task={task}"]).frames_requested
            == CellConfig(task=task).frames
            == frames
        )
        assert parse(["strategy=none", f"task={task}", "frames=9"]).frames_requested == 9
        assert CellConfig(task=task, frames=9).frames == 9
    assert parse(["strategy=none", "video=a.mp4", "question=x"]).frames_requested == 32


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        (
            "mvbench",
            "write tinyvqa, files:PATH of an annotations file, or lmms:NAME of a task of lmms-eval",
        ),
        ("tinyvqq", "did you mean tinyvqa?"),
        ("lmm:mvbench", "did you mean lmms:mvbench?"),
        ("LMMS:mvbench", "did you mean lmms:mvbench?"),
        ("file:a.json", "did you mean files:a.json?"),
        ("a/b.jsonl", "for an annotations file write files:a/b.jsonl"),
        ("mvbench", "as in task=lmms:mvbench"),
        ("lmms/mvbench", "as in task=lmms:mvbench"),
        ("lmms:", "task=lmms: names nothing: write files:PATH or lmms:NAME"),
        ("files:", "names nothing"),
    ],
)  # fmt: skip
def test_a_task_of_no_such_name_says_what_there_is(name: str, instead: str) -> None:
    with pytest.raises(TaskError) as caught:
        tasks.build(name, samples=None, frames=8, seed=0)
    assert instead in str(caught.value)
