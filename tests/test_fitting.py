"""`batch_size=auto`: a batch that does not fit into memory is halved, and no answer changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from running import FAST, lasting, read

from tokenprune import tasks
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.evaluation import asking, fitting, generate
from tokenprune.evaluation.batches import Encoder, Readable
from tokenprune.evaluation.fitting import BatchSize, fitted, halves
from tokenprune.loading.processor import Processor
from tokenprune.strategy import Extent

SMALL = Extent(frames=8, cells=36, depth=6)
REAL = Extent(frames=32, cells=196, depth=28)


def full(limit: int, error: type[Exception] = torch.OutOfMemoryError) -> Callable[[Any], Any]:
    """Answers with what was asked, if that is at most `limit`."""

    def answer(members: Sequence[int]) -> list[int]:
        if len(members) > limit:
            raise error("CUDA out of memory. Tried to allocate 20.00 GiB")
        return list(members)

    return answer


@pytest.mark.parametrize(
    ("number", "began", "limit", "settled"),
    [(32, 32, 32, 32), (32, 32, 9, 8), (7, 32, 3, 2), (32, 20, 4, 2), (5, 8, 1, 1), (1, 1, 1, 1)],
)
def test_a_batch_becomes_what_fits(number: int, began: int, limit: int, settled: int) -> None:
    size = BatchSize(began, shrinks=True)
    made = list(fitted(range(number), size, full(limit)))
    assert [one for _, some in made for one in some] == list(range(number))
    assert all(list(members) == some for members, some in made)
    assert size.now == settled and settled in halves(began)
    assert max(len(some) for _, some in made) <= settled


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError])
def test_what_did_not_fit_is_not_tried_again(error: type[Exception]) -> None:
    size, tried = BatchSize(8, shrinks=True), []
    answer = full(3, error)

    def counted(members: Sequence[int]) -> Any:
        tried.append(len(members))
        return answer(members)

    for _ in range(2):
        list(fitted(range(8), size, counted))
    assert tried == [8, 4, *[2] * 4, *[2] * 4]
    assert size.as_dict() == {"asked": "auto", "began": 8, "settled": 2}
    assert size.used == {2}


def test_other_errors_pass() -> None:
    def broken(members: Sequence[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(fitted(range(4), BatchSize(4, shrinks=True), broken))


def test_what_cannot_shrink_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"4 samples at once do not fit .* batch_size=auto"):
        list(fitted(range(4), BatchSize(4), full(3)))
    with pytest.raises(ConfigError, match="not even one sample fits into memory: write fewer fram"):
        list(fitted(range(4), BatchSize(4, shrinks=True), full(0)))


@pytest.mark.parametrize(
    ("device", "extent", "size"),
    [("cpu", SMALL, 1), ("cuda", SMALL, 32), ("cuda", REAL, 20), ("mps", REAL, 20)],
)
def test_what_auto_begins_with(device: str, extent: Extent, size: int) -> None:
    found = fitting.batch_size("auto", device, extent)
    assert (found.now, found.shrinks) == (size, True)
    fixed = fitting.batch_size(5, device, extent)
    assert (fixed.now, fixed.shrinks) == (5, False)


def test_what_is_decoded_later_comes_in_smaller_groups() -> None:
    task, size = tasks.build("tinyvqa", samples=5, frames=8, seed=0), BatchSize(8, shrinks=True)
    encode, readable = Encoder(Processor.load("tiny"), size), Readable(task)
    drawn = [readable[index] for index in range(5)]
    for settled, groups in ((8, [5]), (4, [4, 1]), (2, [2, 2, 1])):
        batch = encode(drawn)
        assert [len(group.indices) for group in batch.groups] == groups and size.now == settled
        assert [index for group in batch.groups for index in group.indices] == list(range(5))
        size.halve(size.now)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As if on an accelerator whose memory holds three samples; the sizes of batches tried."""
    tried: list[int] = []
    real = fitting.batch_size

    def begin(asked: Any, device: str, extent: Extent) -> BatchSize:
        return real(asked, "cuda", Extent(32, 512, extent.depth))  # begins with 8

    def generated(model: Any, pipeline: Any, processor: Any, inputs: Any, *rest: Any, **how: Any):
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return generate.generate(model, pipeline, processor, inputs, *rest, **how)

    monkeypatch.setattr("tokenprune.evaluation.run.batch_size", begin)
    monkeypatch.setattr("tokenprune.study.runner.batch_size", begin)
    monkeypatch.setattr(asking, "generate", generated)
    return tried


WORDS = ["run", "strategy=random", "limit=5", *FAST]


@pytest.fixture(scope="module")
def twos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two samples at a time, as it was asked for."""
    out = tmp_path_factory.mktemp("twos") / "run"
    assert main([*WORDS, "batch_size=2", f"out={out}"]) == 0
    return out


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_halves_and_answers_the_same(
    workers: int, twos: Path, gpu: list[int], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main([*WORDS, "batch_size=auto", f"workers={workers}", f"out={out}"]) == 0
    assert gpu.count(5) == 1 and gpu.count(4) == 1 and set(gpu) == {5, 4, 2, 1}
    assert lasting(out) == lasting(twos)
    settled = {"asked": "auto", "began": 8, "settled": 2}
    assert read(out)[0]["environment"]["batch_size"] == settled
    report = (out / "report.md").read_text()
    assert "Batches of 8 samples did not fit into memory: batch_size=auto settled on 2." in report
    assert "batch_size" not in read(twos)[0]["environment"]
    assert "batch_size: auto" in (out / "config.yaml").read_text(), "as it was asked for"


def test_the_full_models_answers_are_those_of_a_batch_as_large(
    gpu: list[int], tmp_path: Path
) -> None:
    """A second run begins where the first one settled, and need not find out again."""
    first, second = (tmp_path / name for name in ("first", "second"))
    assert main([*WORDS, "batch_size=auto", f"out={first}"]) == 0
    gpu.clear()
    assert main([*WORDS, "batch_size=auto", f"out={second}"]) == 0
    assert max(gpu) == 2
    summary, _ = read(second)
    assert summary["systems"]["vanilla"]["reused"] == str(first)
    assert summary["environment"]["batch_size"]["began"] == 2
    assert summary["vanilla_key"] == read(first)[0]["vanilla_key"]


def test_too_large_a_batch_is_one_line(
    gpu: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "batch_size=4", f"out={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert "4 samples at once do not fit into memory: write batch_size=auto, or a smaller" in error
    assert not (tmp_path / "out").exists()


def test_cells_settle_once(gpu: list[int], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pyarrow")
    words = ["strategy=visionzip", "keep=0.5", "limit=5", "workers=1", *FAST[:-1]]
    out = tmp_path / "out"
    assert main(["sweep", *words, "batch_size=auto", f"out={out}"]) == 0
    assert gpu.count(5) == 1 and gpu.count(4) == 1 and set(gpu) == {5, 4, 2, 1}
    for cell in (out / "cells").iterdir():
        environment = json.loads((cell / "summary.json").read_text())["environment"]
        assert environment["batch_size"]["settled"] == 2
    # the same command finds them as they are
    gpu.clear()
    assert main(["sweep", *words, "batch_size=auto", f"out={out}"]) == 0 and not gpu


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("batch_size=many", "batch_size=many is not a whole number: write batch_size=8, or auto"),
        ("batch_size=0", "batch_size=0 is too few: write at least 1"),
        ("batch_size=1.5", "batch_size=1.5 is not a whole number: write batch_size=8, or auto"),
        ("frames=auto", "frames=auto is not a whole number"),
    ],
)
def test_words(word: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "strategy=fastv", word]) == 2
    assert told in capsys.readouterr().err
