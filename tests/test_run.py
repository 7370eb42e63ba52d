"""Whole runs on the embedded model, by the command line: what is written, and what never is."""

from __future__ import annotations

import json
import re
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import bad_files, write_video
from models import llava_onevision
from omegaconf import OmegaConf
from rich.console import Console

from tokenprune import checkpoints, tasks
from tokenprune.cli.details import details
from tokenprune.cli.main import main
from tokenprune.evaluation.run import Finished
from tokenprune.results.answer import ROLES
from tokenprune.results.read import read_run
from tokenprune.runtime.slots import unpack
from tokenprune.tasks.questions import CATEGORIES
from tokenprune.tasks.tinyvqa import TinyVQA

FAST = ["device=cpu", "frames=8", "max_new_tokens=4", "report=false"]
OWN = {"strategy_ms", "probe_ms", "choosing_ms_per_token"}
TIMES = {"answer_ms", "vision_ms", "prefill_ms", "decode_ms_per_token", *OWN}
SYSTEMS = ("strategy", "vanilla", "random")


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "records.jsonl",
        "report.md",
        "summary.json",
    ]
    lines = (folder / "records.jsonl").read_text().splitlines()
    return json.loads((folder / "summary.json").read_text()), [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run that several tests look at."""
    out = tmp_path_factory.mktemp("run") / "deep" / "out"
    words = [
        "strategy=dycoke+dytok",
        "dycoke.merge=0.5",
        "limit=17",
        "seed=3",
        "max_new_tokens=6",
        f"out={out}",
        "report=false",
    ]
    assert main(["run", *words, "device=cpu", "frames=8"]) == 0
    return out


def test_the_summary(finished: Path) -> None:
    summary, records = read(finished)
    assert summary["spec"] == "dycoke+dytok" and summary["options"] == {"dycoke.merge": 0.5}
    assert (summary["model"], summary["task"], summary["samples"], summary["frames"]) == (
        "tiny",
        "tinyvqa",
        17,
        8,
    )
    for role in SYSTEMS:
        scores: dict[str, list[float]] = {}
        for record in records:
            scores.setdefault(record["category"], []).append(record[role]["score"])
        means = {category: sum(marks) / len(marks) for category, marks in scores.items()}
        assert {
            category: row[role]["score"] for category, row in summary["categories"].items()
        } == pytest.approx(means)
        system = summary["systems"][role]
        assert system["score"] == pytest.approx(sum(means.values()) / len(means)), (
            "every category counts the same"
        )
        assert system["score_low"] is None, "one or two samples of a category tell nothing"
        existence = summary["categories"]["existence"][role]
        assert 0 <= existence["score_low"] <= means["existence"] <= existence["score_high"] <= 1
        assert all(system[name] > 0 for name in TIMES - {"decode_ms_per_token", *OWN})
    assert list(summary["categories"]) == list(CATEGORIES)
    assert [row["samples"] for row in summary["categories"].values()] == [2, 2] + [1] * 13
    assert all(set(row) == {"samples", *SYSTEMS} for row in summary["categories"].values())

    own = summary["systems"]["strategy"]
    assert own["full"] == 8 * 36 and own["kept"] == 180, "2 x (36 + 3 x 18)"
    assert own["requested_ratio"] == own["input_ratio"] == own["layer_average_ratio"] == 0.625
    control = summary["systems"]["random"]
    assert control["layer_average_ratio"] == own["layer_average_ratio"], "the same measured budget"
    assert control["flops_ratio"] < own["flops_ratio"], "the guide's layers are counted"
    assert [summary["systems"]["vanilla"][name] for name in ("flops_ratio", "input_ratio")] == [
        1,
        1,
    ]
    assert "not the papers' results" in summary["note"]

    environment = summary["environment"]
    assert environment["command"].startswith("tokenprune run strategy=dycoke+dytok")
    assert (
        environment["device"] == "cpu"
        and environment["dtype"] == "float32"
        and environment["threads"] >= 1
    )
    assert {"tokenprune", "python", "torch", "transformers", "lightning"} <= set(
        environment["versions"]
    )
    assert "git_revision" in environment and environment["platform"]


def test_the_records(finished: Path) -> None:
    _, records = read(finished)
    task = tasks.build("tinyvqa", samples=None, frames=8, seed=3)
    assert [record["id"] for record in records] == [task[i].id for i in range(17)]
    for index, record in enumerate(records):
        sample = task[index]
        assert (record["question"], record["answer"], record["category"]) == (
            sample.question,
            sample.answer,
            sample.category,
        )
        assert (
            record["prompt"]
            == f"<|im_start|>user <video>\n{sample.question}<|im_end|><|im_start|>assistant\n"
        )
        for role in SYSTEMS:
            assert record[role]["score"] == task.score(record[role]["prediction"], sample)
        for system in SYSTEMS:
            tokens, time = record[system]["tokens"], record[system]["time"]
            assert set(time) == TIMES
            assert (
                sum(tokens["kept_per_frame"]) == tokens["kept"]
                and len(tokens["kept_per_layer"]) == 6
            )
        (stage,) = record["strategy"]["tokens"]["stages"]
        assert stage["strategy"] == "dycoke" and stage["before"] == [36] * 8
        assert stage["budget"] == stage["after"] == record["strategy"]["tokens"]["kept_per_frame"]
        assert list(map(len, unpack(record["strategy"]["tokens"]))) == stage["after"]
        assert len(record["strategy"]["tokens"]["frame_weights"]) == 8
        assert "slots" not in record["vanilla"]["tokens"]
        decoded = record["strategy"]["tokens"]["decode_visible"]
        assert all(visible == 54 for visible in decoded), "30 % of 180"


def test_the_configuration(finished: Path) -> None:
    config: Any = OmegaConf.load(finished / "config.yaml")
    assert config.run.strategy == "dycoke+dytok" and config.run.seed == 3 and config.run.frames == 8
    own = config.systems.strategy
    assert own.dycoke.merge == 0.5 and own.dycoke.prune == 0.7 and own.dytok.follow == "paper"
    assert config.systems.random.random == {"keep": 0.625, "seed": 3}
    assert config.environment.versions.torch == torch.__version__


def rows_of(printed: str) -> list[str]:
    """The systems in the table of results."""
    words = [line.split() for line in printed.splitlines() if line.startswith("  ")]
    rows = [line for line in words if len(line) > 6 and line[1][0].isdigit()]
    return [first for first, *_ in rows]


def test_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And results go to runs/<time>-<spec> by default, twice in a second too."""
    monkeypatch.chdir(tmp_path)
    words = ["run", "strategy=fastv", "limit=1", "details=true", *FAST]
    assert main(words) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert rows_of(captured.out) == ["vanilla", "random", "fastv"]
    for piece in (
        "score",
        "[95 %]",
        "asked",
        "LLM input",
        "layer avg",
        "decode",
        "FLOPs",
        "prefill",
        "ms/token",
    ):
        assert piece in captured.out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-fastv")
    assert (
        "1 samples of tinyvqa, 8 frames each, 288 visual tokens uncompressed.\nResults in "
        f"runs/{folder.name}" in (captured.out)
    )
    assert "not the papers' results" in captured.out
    assert "score by category" not in captured.out, "there is one only"
    assert "3/3 random" in captured.err, "a progress bar, kept apart from the results"
    assert max(map(len, lines)) <= 140
    read(folder)
    monkeypatch.setattr(
        "tokenprune.results.run_folder.time.strftime", lambda _: folder.name.removesuffix("-fastv")
    )
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        folder.name,
        f"{folder.name}-2",
    ]


@pytest.mark.parametrize(
    ("spec", "systems"), [("none", ["vanilla"]), ("random", ["vanilla", "random"])]
)
def test_controls_are_not_repeated(
    spec: str, systems: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"strategy={spec}", "limit=1", "details=true", f"out={tmp_path / 'out'}"]
    assert main(["run", *words, *FAST]) == 0
    assert rows_of(capsys.readouterr().out) == systems
    summary, (record,) = read(tmp_path / "out")
    assert list(summary["systems"]) == systems and record.keys() & set(SYSTEMS) == set(systems)
    subject = summary["systems"][systems[-1]]
    assert subject["score"] is not None
    assert subject["input_ratio"] == (1.0 if spec == "none" else 0.25)


def test_batches_give_what_singles_give(tmp_path: Path) -> None:
    answers = []
    for size in (1, 3):
        out = tmp_path / str(size)
        words = [f"batch_size={size}", "limit=4", f"out={out}"]
        assert main(["run", "strategy=visionzip+dytok", *words, *FAST]) == 0
        _, records = read(out)
        answers.append(
            [
                [(r[s]["prediction"], r[s]["tokens"]["kept_per_frame"]) for s in SYSTEMS]
                + [r["id"]]
                for r in records
            ]
        )
    assert answers[0] == answers[1]


def test_a_video_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "clip.mkv", codec="libx264")
    out = tmp_path / "out"
    words = [f"video={path}", "question=What moves: red?", "assistant=tiny", f"out={out}"]
    assert main(["run", "strategy=fastv+dytok", *words, *FAST]) == 0
    printed = capsys.readouterr().out
    summary, (record,) = read(out)
    assert (
        summary["task"] is None
        and summary["video"] == str(path)
        and summary["question"] == "What moves: red?"
    )
    assert all(system["score"] is None for system in summary["systems"].values())
    assert (
        record["strategy"]["score"] is None
        and record["question"] == "What moves: red?"
        and summary["frames"] == 8
    )
    for system in ("strategy", "vanilla"):
        assert record[system]["prediction"] in printed
    kept = record["strategy"]["tokens"]["kept_per_frame"]
    bars = [line.split() for line in printed.splitlines() if line.startswith("  frame ")]
    assert [int(bar[-1]) for bar in bars] == kept and sum(kept) == 144
    assert re.search(r"^vanilla +.* 100\.0 % +\d+ ms", printed, re.MULTILINE)
    assert printed.startswith("fastv+dytok keeps") and "score" not in printed
    assert (
        main(
            [
                "run",
                "strategy=none",
                f"video={path}",
                "question=x",
                f"out={tmp_path / 'b'}",
                "frames=99",
                "report=false",
            ]
        )
        == 0
    )
    assert read(tmp_path / "b")[0]["frames"] == 40, "every frame of a short video"


def test_a_benchmarks_own_figures_are_of_the_samples_that_all_systems_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, unreadable = TinyVQA.__getitem__, [1]  # once: the full model alone goes without it

    def read_later(self: Any, index: int) -> tasks.Sample:
        if index in unreadable:
            unreadable.remove(index)
            raise OSError("torn file")
        return real(self, index)

    monkeypatch.setattr(TinyVQA, "__getitem__", read_later)
    monkeypatch.setattr(TinyVQA, "metrics", lambda self, told: {"asked": sorted(told)})
    assert main(["run", "strategy=fastv", "limit=3", f"out={tmp_path / 'out'}", *FAST]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["errors"] == summary["systems"]["vanilla"]["errors"] == 1
    assert summary["systems"]["strategy"]["errors"] == 0
    assert summary["metrics"] == {role: {"asked": [0, 2]} for role in SYSTEMS}


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line said about a run that cannot be."""
    assert main(["run", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    said = captured.err.splitlines()[-1]
    assert said.startswith("tokenprune: error: ") and "Traceback" not in captured.err
    return said


def test_nothing_is_left_by_runs_that_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "videos"
    source.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for path, _ in bad_files(source).values():
        assert path.name in fails(capsys, "strategy=dycoke", f"video={path}", "question=what")
    clip = write_video(source / "clip.mp4")
    for words, message in {
        ("strategy=fastv", "fastv.layer=9"): "fastv.layer=9 prunes nothing",
        ("strategy=fastv", "task=tinyvqq"): "unknown task 'tinyvqq'",
        ("strategy=fastv", "frames=2"): "frames must be at least 8",
        ("strategy=fastv", "model=absent"): "there is no model 'absent'",
        ("strategy=fastv", "device=cuda:99"): "device=cuda:99 is not on this machine",
        ("strategy=fastv", "dtype=int8"): "dtype=int8 is unknown",
        ("strategy=fastv+dytok", "assistant=absent"): "there is no model 'absent'",
        (
            "strategy=fastv",
            f"video={clip}",
            "question=a <video> of what",
        ): "must not contain <video>",
        (
            "strategy=fastv+dytok",
            "limit=1",
            "assistant=absent",
            "out=deep/er/out",
        ): "there is no model 'absent'",
    }.items():
        few = [] if "frames=2" in words else ["frames=8"]
        assert message in fails(capsys, *words, *few)
        assert not list(work.iterdir()), words
    said = fails(capsys, "strategy=fastv+dytok", "limit=1", "dytok.layers=[7,9]", "out=out", *FAST)
    assert "does not fit the guide" in said, "which is found out when the guide is asked"
    assert (
        "1 answer is kept: go on with: tokenprune run resume=out" in said
        and (work / "out" / "parts").is_dir()
    )


def test_an_assistant_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stock model with the embedded tokenizer that sees 48 pixels: other tokens per frame."""
    home = tmp_path / "other"
    llava_onevision().save_pretrained(home)
    for file in checkpoints.path("tiny").iterdir():
        if not (home / file.name).exists():
            (home / file.name).write_text(file.read_text().replace("96", "48"))
    said = fails(
        capsys,
        "strategy=fastv+dytok",
        "limit=1",
        f"assistant={home}",
        f"out={tmp_path / 'out'}",
        *FAST,
    )
    assert "the assistant sees 9 tokens per frame" in said
    assert not (tmp_path / "out").exists()


def test_results_are_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert "is not empty" in fails(capsys, "strategy=fastv", f"out={tmp_path / 'full'}")
    assert "is a file" in fails(capsys, "strategy=fastv", f"out={tmp_path / 'full' / 'notes.txt'}")
    assert main(["run", "strategy=none", "limit=1", f"out={tmp_path / 'empty'}", *FAST]) == 0
    read(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_an_interrupted_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokenprune.tasks.tinyvqa.TinyVQA.__getitem__", interrupted)
    assert main(["run", "strategy=none", "limit=2", f"out={tmp_path / 'a' / 'out'}", *FAST]) == 130
    assert capsys.readouterr().err.endswith("tokenprune: error: interrupted, nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_the_table_stands_upright_where_it_is_narrow(finished: Path) -> None:
    summary = read_run(finished).summary
    existence, texts = summary.categories["existence"], []
    for width in (80, 140):
        console = Console(width=width, record=True, file=StringIO())
        console.print(details(Finished(finished, summary, []), width))
        text = console.export_text()
        texts.append(sorted(word for word in text.split() if word[0].isdigit() and "." in word))
        assert "…" not in text and "score by category" in text
        assert "No intervals: resampling takes at least 5 samples" in " ".join(text.split())
        words = [line.split() for line in text.splitlines()]
        categories = [line for line in words if line and line[0] in CATEGORIES]
        assert [category for category, *_ in categories] == list(CATEGORIES)
        scores = [f"{100 * existence.scores[role].value:.1f}" for role in ROLES]
        assert categories[0][1:] == [*scores, "2"]
    assert texts[0] == texts[1], "the same numbers"


def test_the_loop_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    import rich

    monkeypatch.chdir(tmp_path)
    console, level = rich.get_console().file, logging.getLogger("lightning.pytorch").level
    before = list(warnings.filters)
    assert main(["run", "strategy=none", "limit=1", "out=out", *FAST]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"], (
        "no lightning_logs, no checkpoints"
    )
    assert (
        rich.get_console().file is console and logging.getLogger("lightning.pytorch").level == level
    )
    assert warnings.filters == before
