"""Nothing lost, nothing twice: runs that are killed, interrupted, repeated and reused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from running import FAST, chance, lasting, records, start

from tokenprune.cli.main import main
from tokenprune.evaluation.batches import Readable
from tokenprune.results import run_folder as run_folders
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal, count
from tokenprune.storage import exclusive


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["run", "strategy=fastv", "limit=13", f"out={out}", *FAST]) == 0
    return out


def test_killed_at_three_moments_on_two_processes_and_one(whole: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    words = [
        "strategy=fastv",
        "limit=13",
        f"out={out}",
        *FAST,
        "trainer.devices=2",
        "trainer.strategy=ddp",
    ]
    moments = sorted(chance().sample(range(1, 36), 3))  # of the 39 answers of three systems
    for number, moment in enumerate(moments):
        process = start(log, *words)
        while process.poll() is None and (not out.exists() or count(out) < moment):
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert count(out) >= moment and not (out / "summary.json").exists(), log.read_text()
        for part in (out / "parts").iterdir():  # whatever was being written is no answer
            with part.open("a") as stream:
                stream.write('{"index": 3, "id": "torn')
        words = [f"resume={out}", f"trainer.devices={1 + number % 2}"]
        time.sleep(0.2)
    assert start(log, f"resume={out}", "trainer.devices=1").wait(timeout=300) == 0, log.read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "records.jsonl",
        "report.md",
        "summary.json",
    ]
    assert lasting(out) == lasting(whole), moments


def test_two_processes_evaluate_every_sample_once(tmp_path: Path) -> None:
    """Seven samples on two processes, no two of them the same and none left out; the same as on
    one.
    """
    out, alone = tmp_path / "out" / "run", tmp_path / "alone" / "run"
    words = ["strategy=random", "limit=7", *FAST]
    log = tmp_path / "log"
    process = start(log, *words, f"out={out}", "trainer.devices=2", "trainer.strategy=ddp")
    assert process.wait(timeout=300) == 0, log.read_text()
    assert main(["run", *words, f"out={alone}"]) == 0
    assert [record["index"] for record in records(out)] == list(range(7))
    assert lasting(out) == lasting(alone)


@pytest.fixture
def interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A run that the user stops after 17 answers."""
    out, real = tmp_path / "here" / "out", Journal.append

    def append(self: Journal, system: str, outcome: Answer, process: int) -> None:
        if system == "strategy" and outcome.index == 4:
            raise KeyboardInterrupt
        real(self, system, outcome, process)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", append)
        assert main(["run", "strategy=fastv", "limit=13", f"out={out}", *FAST]) == 130
    message = (
        "tokenprune: error: interrupted, 17 answers are kept: go on with: tokenprune run "
        f"resume={out}\n"
    )
    assert capsys.readouterr().err.endswith(message)
    assert count(out) == 17 and sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "parts",
    ]
    return out


def test_an_interrupted_run_goes_on(
    whole: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = Readable.__getitem__
    monkeypatch.setattr(
        Readable, "__getitem__", lambda self, index: asked.append(index) or real(self, index)
    )
    assert main(["run", f"resume={interrupted}"]) == 0
    assert lasting(interrupted) == lasting(whole)
    assert asked == [*range(4, 13), *range(13)], "what was answered is not asked again"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["frames=16"], "was begun with frames=8, not 16: leave frames= out, or begin a new run"),
        (["strategy=dycoke"], "was begun with strategy=fastv, not dycoke: leave strategy= out"),
        (["fastv.drop=0.7"], "was begun with fastv.drop=its default, not 0.7"),
        (["limit=null"], "was begun with limit=13, not None"),
        (["samples=9"], "was begun with samples=None, not 9"),
        (["seed=1"], "was begun with seed=0, not 1"),
    ],
)
def test_another_configuration_is_refused(
    words: list[str], reason: str, interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in interrupted.rglob("*") if file.is_file()}
    assert main(["run", f"resume={interrupted}", *words]) == 2
    assert f"resume={interrupted} {reason}" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in interrupted.rglob("*") if file.is_file()} == before


def test_what_cannot_be_resumed(
    whole: Path, interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"resume={whole}"]) == 2
    assert (
        f"resume={whole} is finished: its results are in {whole / 'summary.json'}"
        in capsys.readouterr().err
    )
    assert main(["run", f"resume={tmp_path / 'none'}"]) == 2
    assert "holds no run: name the folder that one was writing" in capsys.readouterr().err
    assert main(["run", "strategy=fastv", f"out={interrupted}", *FAST]) == 2
    assert (
        f"holds an unfinished run: go on with resume={interrupted}, or remove it"
        in capsys.readouterr().err
    )
    (interrupted / "config.yaml").write_text("run: {planet: mars}")
    assert main(["run", f"resume={interrupted}"]) == 2
    assert "is not that of a run of this version" in capsys.readouterr().err


def test_one_run_at_a_time(
    interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, place in (("resume", interrupted), ("out", tmp_path / "new")):
        with exclusive(place):
            words = [] if key == "resume" else ["strategy=fastv", *FAST]
            assert main(["run", *words, f"{key}={place}"]) == 2
        assert f"{place} is in use by process {os.getpid()} on " in capsys.readouterr().err
    assert count(interrupted) == 17


def test_processes_from_outside_need_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torchrun and Slurm start all processes at once: a name made of the time would differ."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    assert not run_folders.first_process()
    assert main(["run", "strategy=fastv", "limit=1", *FAST]) == 2
    assert (
        "processes that are started from outside need one folder for all of them: add out=DIR"
        in (capsys.readouterr().err)
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        ([], True),
        (["limit=2"], True),
        (["reuse=false"], False),
        (["limit=4"], False),
        (["seed=1"], False),
        (["frames=9"], False),
        (["max_new_tokens=5"], False),
        (["dtype=bfloat16"], False),
    ],
)
def test_the_full_model_answers_once(
    change: list[str], reused: bool, whole: Path, tmp_path: Path
) -> None:
    """A run beside this one that asked it the same spares it the answers; other samples or settings
    do not.
    """
    lines = records(whole)
    first, out = tmp_path / "first", tmp_path / "second"
    shutil.copytree(whole, first)
    given = dict(word.split("=", 1) for word in ["strategy=dycoke", "limit=3", *FAST, *change])
    # a shorter run
    (first / "records.jsonl").write_text("\n".join(json.dumps(line) for line in lines[:3]) + "\n")
    assert main(["run", *(f"{key}={value}" for key, value in given.items()), f"out={out}"]) == 0
    vanilla = json.loads((out / "summary.json").read_text())["systems"]["vanilla"]
    assert vanilla["reused"] == (str(first) if reused else None)
    if reused:
        made = [line["vanilla"] for line in records(out)]
        for own, theirs in zip(made, lines, strict=False):
            assert {**own, "time": None} == {**theirs["vanilla"], "time": None}, (
                "answers, and never times"
            )
