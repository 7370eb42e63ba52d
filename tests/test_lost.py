"""No answer is lost: whatever fails after some answers, they stay, the command says so, and the run
goes on.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import FAST, lasting, records, start

from tokenprune.cli.main import main
from tokenprune.errors import TaskError
from tokenprune.evaluation.batches import Readable
from tokenprune.loading.processor import Processor
from tokenprune.results import record
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal, count
from tokenprune.storage import replace
from tokenprune.strategies.fastv import FastV
from tokenprune.tasks.tinyvqa import TinyVQA

WORDS = ["strategy=fastv", "limit=5", *FAST]  # 15 answers of three systems


def go_on(done: int, out: Path) -> str:
    return f"{done} answers are kept: go on with: tokenprune run resume={out}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["run", *WORDS, f"out={out}"]) == 0
    return out


class Full(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 2500

    def write(self, data: Any, /) -> int:
        if len(data) <= self.room:
            self.room -= len(data)
            return super().write(data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, self.room = super().write(bytes(data)[: self.room]), 0
        return written


def fails(
    where: type, name: str, call: int, error: Callable[[], BaseException]
) -> Callable[[pytest.MonkeyPatch], None]:
    """What makes a method fail the `call`-th time."""

    def breaks(patch: pytest.MonkeyPatch) -> None:
        real, calls = getattr(where, name), []

        def failing(*args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise error()
            return real(*args, **options)

        patch.setattr(where, name, failing)

    return breaks


def writes_until_full(patch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def opened(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return Full(self, mode) if mode == "ab" else real(self, mode, *rest, **options)

    patch.setattr(Path, "open", opened)


def no_room_for_results(patch: pytest.MonkeyPatch) -> None:
    def full(file: Path, content: str | bytes) -> None:
        if file.name == "records.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        replace(file, content)

    patch.setattr(record, "replace", full)


def shapes() -> ValueError:
    return ValueError("operands could not be broadcast together with shapes (16,36) (15,36)")


FAILURES: dict[
    str, tuple[Callable[[pytest.MonkeyPatch], None], int | None, type[BaseException] | None]
] = {
    "a judge": (fails(TinyVQA, "score", 8, lambda: TaskError("HTTP 429")), 7, None),
    "a metric": (fails(TinyVQA, "score", 8, shapes), 7, ValueError),
    "a strategy": (fails(FastV, "prune", 4, shapes), 8, ValueError),
    "memory": (fails(FastV, "prune", 4, lambda: torch.OutOfMemoryError("CUDA")), 8, None),
    "the tokenizer": (fails(Processor, "decode", 3, lambda: IndexError("id")), 2, IndexError),
    "the loader": (fails(Readable, "__getitem__", 9, lambda: KeyError("id")), 8, KeyError),
    "collating": (fails(Processor, "encode", 6, shapes), 5, ValueError),
    "a full disk": (writes_until_full, None, None),
    "a full disk at the end": (no_room_for_results, 15, None),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_after_answers(
    what: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, (breaks, done, bug) = tmp_path / "out", FAILURES[what]
    with monkeypatch.context() as patch:
        breaks(patch)
        if bug is None:
            assert main(["run", *WORDS, f"out={out}"]) == 2
            (line,) = [
                line
                for line in capsys.readouterr().err.splitlines()
                if line.startswith("tokenprune: error: ")
            ]
        else:
            with pytest.raises(bug) as caught:
                main(["run", *WORDS, f"out={out}"])
            line = caught.value.__notes__[-1]
    assert count(out) == (done or count(out)) > 0
    assert line.endswith(go_on(count(out), out))
    assert main(["run", f"resume={out}"]) == 0
    assert lasting(out) == lasting(whole)


def test_nothing_is_removed_once_the_results_are_there(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C between the last file and the end: no parts any more, and everything in its place."""
    out, real = tmp_path / "out", Journal.discard

    def discard(self: Journal) -> None:
        real(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "discard", discard)
        assert main(["run", *WORDS, f"out={out}"]) == 130
    assert f"interrupted, the run is finished: its results are in {out}" in capsys.readouterr().err
    assert lasting(out) == lasting(whole)


def test_a_worker_that_is_killed_is_one_sentence(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the kernel does it to a process that takes too much memory."""
    out, real, here = tmp_path / "out", Readable.__getitem__, os.getpid()

    def reads(self: Readable, index: int) -> Any:
        if index == 3 and os.getpid() != here:
            while count(out) < 1:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Readable, "__getitem__", reads)
        assert main(["run", *WORDS, f"out={out}", "workers=1"]) == 2
    (line,) = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("tokenprune: error: ")
    ]
    assert re.search(
        r"a process that reads videos ended .* \(DataLoader worker \(pid.*\): with workers=0", line
    )
    assert line.endswith(f"kept: go on with: tokenprune run resume={out}") and count(out) >= 1
    assert main(["run", f"resume={out}", "workers=0"]) == 0
    assert lasting(out) == lasting(whole)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos with questions, some of which are none."""
    home = tmp_path_factory.mktemp("clips") / "shapes"
    assert main(["data", "export", "tinyvqa", f"out={home}", "n=5", "frames=8"]) == 0
    file = home / "annotations.json"
    told = json.loads(file.read_text())
    told["samples"][1]["question"] = "Which tag plays a clip, <video> or <audio>?"
    told["samples"][2]["question"] = "What does <|im_end|> end?"
    told["samples"][3]["question"] = "half a sign: \ud83d"
    told["samples"][4]["question"] = "what is it? " * 2000
    file.write_text(json.dumps(told))
    return file


REASONS = (
    "must not contain <video>, which the checkpoint reads as a control token",
    "must not contain <|im_end|>, which the checkpoint reads as a control token",
    "the tokenizer does not take the question 'half a sign: \\ud83d'",
    "more than the 4096 of the model's context: write fewer frames= or a shorter question",
)


@pytest.mark.parametrize("words", [["workers=0"], ["workers=2"], ["workers=0", "batch_size=5"]])
def test_a_question_that_is_none_costs_its_sample_only(
    clips: Path, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        main(["run", "strategy=uniform", f"task=files:{clips}", *FAST, *words, f"out={out}"]) == 0
    )
    first, *others = records(out)
    assert first["strategy"]["error"] is None and first["strategy"]["prediction"]
    for line, reason in zip(others, REASONS, strict=True):
        assert all(
            reason in line[system]["error"] and "\n" not in line[system]["error"]
            for system in ("strategy", "vanilla")
        )
        assert line["strategy"]["score"] is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_question_that_is_none_stops_where_that_was_asked_for(
    clips: Path, workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        "strategy=uniform",
        f"task=files:{clips}",
        *FAST,
        f"workers={workers}",
        "on_error=stop",
        f"out={out}",
    ]
    assert main(["run", *words]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert re.search(
        r"error: sample \S+: the question .*<video>.*\(on_error=record goes on without it\); 1 "
        r"answer is kept",
        said,
    )
    assert main(["run", f"resume={out}", "on_error=record"]) == 0
    assert len(records(out)) == 5


def test_an_empty_question_is_a_question() -> None:
    encoded = Processor.load("tiny").encode([(torch.zeros(8, 96, 96, 3, dtype=torch.uint8), "")])
    assert encoded["input_ids"].shape[1] > 8 * 36


def test_signals_one_after_the_other(whole: Path, tmp_path: Path) -> None:
    """SIGTERM, Ctrl-C twice and kill -9 to one run that goes on each time; then it has the records
    of a quiet one.
    """
    out, words = tmp_path / "out", [*WORDS, f"out={tmp_path / 'out'}"]
    for numbers, status, moment in (
        ([signal.SIGTERM], 143, 3),
        ([signal.SIGINT, signal.SIGINT], 130, 6),
        ([signal.SIGKILL], -signal.SIGKILL, 9),
    ):
        log = tmp_path / f"log{moment}"
        process = start(log, *words)
        while process.poll() is None and (not out.exists() or count(out) < moment):
            time.sleep(0.002)
        for number in numbers:
            process.send_signal(number)
        assert process.wait(timeout=120) == status, log.read_text()
        assert count(out) >= moment
        if status > 0:
            assert f"tokenprune: error: interrupted, {go_on(count(out), out)}\n" in log.read_text()
            assert "Traceback" not in log.read_text()
        words = [f"resume={out}"]
    assert main(["run", *words]) == 0
    assert lasting(out) == lasting(whole)


def test_what_was_written_is_forced_onto_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every few seconds and at the end, not at every line."""
    now, synced = [0.0], []
    monkeypatch.setattr("tokenprune.results.journal.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tokenprune.results.journal.os.fsync", lambda file: synced.append(now[0]))
    journal = Journal(tmp_path)
    for step in range(24):
        now[0] = float(step)
        journal.append("strategy", Answer(step, str(step), "all", "?", "!"), 0)
    assert synced == [5.0, 10.0, 15.0, 20.0]
    journal.close()
    assert synced[4:] == [23.0]


def test_a_torn_line_and_zeros_are_no_answers(tmp_path: Path) -> None:
    """Lost power may leave zeros where a line was; the sample is asked again."""
    journal = Journal(tmp_path)
    for index in range(3):
        journal.append("strategy", Answer(index, str(index), "all", "?", "!"), 0)
    journal.close()
    (file,) = (tmp_path / "parts").iterdir()
    first, _, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"\0" * 40 + b"\n" + third + b'{"index": 7, "id": "to')
    assert list(Journal(tmp_path).read("strategy")) == [0, 2] and count(tmp_path) == 2
    again = Journal(tmp_path)
    again.append("strategy", Answer(1, "1", "all", "?", "!"), 0)
    again.close()
    assert list(Journal(tmp_path).read("strategy")) == [0, 1, 2]
