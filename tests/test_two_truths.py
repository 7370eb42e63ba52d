"""No two truths in one result: what a run is resumed with, what is reused of another, which cells
are stale.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from clips import write_video
from omegaconf import OmegaConf

from tokenprune import checkpoints
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.evaluation.known import Known
from tokenprune.results import begun, provenance
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal
from tokenprune.results.provenance import Code
from tokenprune.results.sources import Source
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting
from tokenprune.results.system import System
from tokenprune.runtime.slots import unpack
from tokenprune.study.plan import Cell
from tokenprune.study.run import Swept, sweep
from tokenprune.study.runner import Runner
from tokenprune.study.sweep import parse_sweep

FAST = ["device=cpu", "frames=8", "max_new_tokens=2"]
MINE = """
from dataclasses import dataclass
import torch
from tokenprune import Adjustable, VisionStage

@dataclass(frozen=True)
class Mine(Adjustable, VisionStage, name="mine_{name}"):
    keep: float = 0.5

    def quota(self, tokens):
        return (tokens.counts * self.keep).long()

    def compress(self, tokens, budget):
        rows = [torch.nonzero(tokens.frame == f).flatten() for f in range(len(budget))]
        return tokens[torch.cat([own[: int(n)] for own, n in zip(rows, budget)])]

    def retaining(self, ratio, extent):
        return Mine(ratio)
"""
EDITED = ("own[: int(n)]", "own[len(own) - int(n) :]")  # the last tokens instead of the first


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's plug-in with one strategy, `mine_own`."""
    file = tmp_path / "theirs" / "mine.py"
    file.parent.mkdir()
    file.write_text(MINE.format(name="own"))
    return file


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def interrupted(out: Path, *words: str) -> Path:
    """A run that is stopped when the strategy has answered one sample."""
    real = Journal.append

    def append(self: Journal, system: str, outcome: Answer, *others: Any) -> None:
        if system == "strategy" and outcome.index == 1:
            raise KeyboardInterrupt
        real(self, system, outcome, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", append)
        assert main(["run", *words, *FAST, f"out={out}", "reuse=false"]) == 130
    return out


def refused(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> str:
    """What is said instead of resuming; everything stays as it is."""
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    capsys.readouterr()
    assert main(["run", f"resume={out}", *words]) == 2
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def test_a_plugin_edited_between_kill_and_resume(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = interrupted(tmp_path / "out", "strategy=mine_own", f"plugin={mine}", "limit=3")
    copy = out / "plugins" / "mine.py"
    assert copy.read_text() == mine.read_text()
    edit(mine, *EDITED)
    said = refused(capsys, out)
    assert (
        f"resume={out} was begun with another mine.py: the run's own copy is {copy}: write "
        f"plugin={copy}" in said
    )
    assert f"resume={out} was begun with another mine.py" in refused(capsys, out, f"plugin={mine}")
    assert main(["run", f"resume={out}", f"plugin={copy}"]) == 0
    assert [unpack(record["strategy"]["tokens"])[0] for record in records(out)] == [
        list(range(18))
    ] * 3, "one method"
    assert OmegaConf.load(out / "config.yaml").made_with.code["mine.py"] == provenance.digest(
        copy.read_bytes()
    )


def test_a_process_that_is_started_later_runs_the_same_plugin(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning starts the others once the first has loaded the model: time enough to go on
    editing.
    """
    words = ["strategy=mine_own", f"plugin={mine}", "limit=3"]
    out = interrupted(tmp_path / "out", *words)
    edit(mine, *EDITED)
    monkeypatch.setenv("RANK", "1")
    assert main(["run", *words, *FAST, f"out={out}", "reuse=false"]) == 2
    assert "was begun with another mine.py" in capsys.readouterr().err


def test_a_plugin_that_is_gone_is_read_from_the_run(mine: Path, tmp_path: Path) -> None:
    out = interrupted(tmp_path / "out", "strategy=mine_own", f"plugin={mine}", "limit=3")
    mine.unlink()
    assert main(["run", f"resume={out}"]) == 0
    assert summary(out)["samples"] == 3


def test_other_code_weights_or_precision_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(checkpoints.path("nano"), tmp_path / "folder")
    out = interrupted(
        tmp_path / "out", "strategy=fastv", f"model={folder}", "limit=3", "fastv.layer=1"
    )
    said = refused(capsys, out, "trainer.precision=bf16-true")
    assert (
        "with dtype float32, and would go on with bfloat16: leave dtype= and trainer.precision= out"
        in said
    )
    assert "with precision None, and would go on with bf16-mixed" in refused(
        capsys, out, "trainer.precision=bf16-mixed"
    )

    config = out / "config.yaml"
    text = config.read_text()
    for name in (
        "tokenprune/ops.py",
        "tokenprune/strategies/fastv.py",
        "tokenprune/tasks/tinyvqa.py",
    ):
        known = str(OmegaConf.load(config).made_with.code[name])
        config.write_text(text.replace(f"{name}: {known}", f"{name}: {'f' * 16}"))
        said = refused(capsys, out)
        assert (
            f"resume={out} was begun with another {name}: go on with the code it was begun with, "
            "or begin" in said
        )
    config.write_text(text)

    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert f"with another model.safetensors in the model {folder}: put it back" in refused(
        capsys, out
    )
    (folder / "model.safetensors").write_bytes(weights)
    assert main(["run", f"resume={out}"]) == 0


def test_other_annotations_and_videos_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, file = write_video(tmp_path / "clip.mp4", 8), tmp_path / "annotations.json"
    samples = [
        {"id": f"s{index}", "video": video.name, "question": "What moves?", "answer": "red"}
        for index in range(3)
    ]
    file.write_text(json.dumps(samples))
    out = interrupted(
        tmp_path / "runs" / "out", "strategy=fastv", f"task=files:{file}", "workers=0"
    )
    edit(file, '"red"', '"blue"')
    assert f"was begun with other annotations of files:{file}: put them back, or begin" in refused(
        capsys, out
    )
    edit(file, '"blue"', '"red"')
    state = video.stat()
    write_video(video, 9)
    said = refused(capsys, out)
    assert f"was begun with other video files (sizes or times of change) of files:{file}" in said
    assert state.st_mtime_ns != video.stat().st_mtime_ns


def test_sittings_in_different_environments_are_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what they made together is not lent to other runs."""
    out = interrupted(tmp_path / "here" / "out", "strategy=fastv", "limit=3")
    now = str(OmegaConf.load(out / "config.yaml").sittings[0].environment.versions.torch)
    edit(out / "config.yaml", f"torch: {now}", "torch: 1.0.0")
    assert main(["run", f"resume={out}"]) == 0
    (earlier,) = summary(out)["environment"]["earlier"]
    assert earlier["until"] == 4 and earlier["environment"]["versions"]["torch"] == "1.0.0"
    assert summary(out)["vanilla_key"] is None
    said = " ".join(capsys.readouterr().out.split())
    assert "This run was resumed after 4 answers: its times are of different sittings." in said
    assert f"Its answers are of different environments: torch 1.0.0, now {now}." in said


def test_a_folder_that_does_not_say_its_code_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = interrupted(tmp_path / "out", "strategy=fastv", "limit=3")
    config: Any = OmegaConf.load(out / "config.yaml")
    OmegaConf.save({"run": config.run}, out / "config.yaml")
    assert "does not say which code its run was begun with: begin a new run" in refused(capsys, out)


def test_reused_answers_name_the_run_that_made_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A made them, B reused A's, C reuses B's, which are A's.

    No time is anybody's but the run's own.
    """
    made = tmp_path / "a"
    assert main(["run", "strategy=random", "limit=9", *FAST, f"out={made}"]) == 0
    edit(made / "records.jsonl", '"prefill_ms": ', '"prefill_ms": 99999')
    for name, strategy in (("b", "random"), ("c", "uniform")):
        out = made.with_name(name)
        capsys.readouterr()
        assert main(["run", f"strategy={strategy}", "limit=9", *FAST, f"out={out}"]) == 0
        found = summary(out)
        assert found["systems"]["vanilla"]["reused"] == str(made)
        assert found["timed"] == 5
        said = " ".join(capsys.readouterr().out.split())
        assert (
            f"vanilla was not run again: its answers are from {made}. All times are medians over "
            "the same 5" in said
        )
        own, theirs = records(out), records(made)
        assert [r["vanilla"]["prediction"] for r in own] == [
            r["vanilla"]["prediction"] for r in theirs
        ]
        assert [r["vanilla"]["tokens"] for r in own] == [r["vanilla"]["tokens"] for r in theirs]
        timed = [index for index, record in enumerate(own) if record["vanilla"]["time"]]
        assert timed == [0, 1, 3, 5, 7], "spread evenly"
        assert all(own[index]["vanilla"]["time"]["prefill_ms"] < 99999 for index in timed)
        for role in found["systems"]:
            times = sorted(own[index][role]["time"]["prefill_ms"] for index in timed)
            assert found["systems"][role]["prefill_ms"] == times[2], "medians of the same samples"
        (made / "summary.json").unlink(missing_ok=True)  # only B is left beside C


def test_other_answers_than_the_reused_ones_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the few that are asked again is answered otherwise: all of them are."""
    first, out = tmp_path / "first", tmp_path / "second"
    assert main(["run", "strategy=fastv", "limit=4", *FAST, f"out={first}"]) == 0
    lines = records(first)
    whole = [line["vanilla"]["prediction"] for line in lines]
    lines[2]["vanilla"]["prediction"] = "something else"
    (first / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(["run", "strategy=uniform", "limit=4", *FAST, f"out={out}"]) == 0
    vanilla = summary(out)["systems"]["vanilla"]
    reason = f"{first}: sample {lines[2]['id']}: it gets another answer now"
    assert vanilla["reused"] is None and vanilla["refused"] == reason
    assert (
        f"vanilla was run again, since answers could not be reused of {first}: sample"
        in " ".join(capsys.readouterr().out.split())
    )
    assert [line["vanilla"]["prediction"] for line in records(out)] == whole
    assert all(line["vanilla"]["time"] for line in records(out)) and summary(out)["timed"] == 4


def test_answers_of_other_code_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full model's depend on the loop's code and the task's, and not on a strategy's."""
    first = tmp_path / "first"
    assert main(["run", "strategy=fastv", "limit=2", *FAST, f"out={first}"]) == 0
    real = provenance.code_of_package()
    another = Source("tokenprune.runtime.prefill", Path("tokenprune/runtime/prefill.py"), b"edited")
    edited = Code((*real.sources, another), real.packages)
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "code_of_package", lambda: edited)
        assert main(["run", "strategy=fastv", "limit=2", *FAST, f"out={tmp_path / 'second'}"]) == 0
    assert summary(tmp_path / "second")["systems"]["vanilla"]["reused"] is None


def outcome(
    index: int, prediction: str = "", time: float | None = None, error: str | None = None
) -> Answer:
    measured: dict[str, float | None] = {} if time is None else {"prefill_ms": time}
    return Answer(index, f"s{index}", "c", "q", "a", prediction, 1.0, time=measured, error=error)


@pytest.mark.parametrize(
    ("pending", "batch", "few"),
    [
        (range(100), 1, [0, 12, 25, 37, 50, 62, 75, 87]),
        (range(100), 3, [0, 11, 22, 33, 44, 55, 66, 77, 88]),  # whole batches
        # the others were asked before an interruption
        (range(20, 100), 1, [25, 37, 50, 62, 75, 87]),
        (range(96, 100), 1, []),
    ],
)
def test_a_few_are_asked_again(pending: range, batch: int, few: list[int]) -> None:
    known = Known("there", {index: outcome(index) for index in range(100)})
    assert known.asked_again(pending, batch) == few
    assert known.confirmed({index: outcome(index) for index in few}) is known
    assert Known().asked_again(pending, batch) == list(pending)


@pytest.mark.parametrize(("prediction", "error"), [("another", None), ("", "cannot be read")])
def test_one_other_answer_and_all_are_asked(prediction: str, error: str | None) -> None:
    known = Known("there", {index: outcome(index) for index in range(4)})
    assert known.asked_again(range(4), 1) == [0, 2]
    kept = known.confirmed({0: outcome(0), 2: outcome(2, prediction, error=error)})
    reason = error or "it gets another answer now"
    assert kept.refused == f"there: sample s2: {reason}"
    assert kept.answers == {} and kept.folder is None


def test_times_are_of_the_samples_that_all_systems_were_timed_on() -> None:
    """84 ms of a loaded machine's first sample would be nobody's speed-up."""
    times = {
        "vanilla": [None, 10.0, None, 30.0, 11.0],
        "strategy": [900.0, 5.0, 900.0, 15.0, 6.0],
        "random": [1.0] * 5,
    }
    systems = [
        System(name, name, None, [outcome(index, time=time) for index, time in enumerate(column)])
        for name, column in times.items()
    ]
    found = summarise(systems, Setting())
    assert found.timed == 3
    assert found.systems["vanilla"].measured["prefill_ms"] == 11.0
    assert found.systems["strategy"].measured["prefill_ms"] == 6.0


def fake(self: Runner, cell: Cell) -> list[Answer]:
    names = ("layer_average_ratio", "input_ratio", "decode_ratio")
    made = {"score": 1.0, "tokens": dict.fromkeys(names, cell.budget), "flops_ratio": cell.budget}
    return [Answer(i, f"s{i}", "a", "", "", **made) for i in range(5)]


def swept(out: Path, *words: str) -> Swept:
    return sweep(parse_sweep([*words, "keep=0.5,0.25", "workers=1", *FAST, f"out={out}"]))


def test_a_strategy_edited_between_two_sweeps(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(
        Runner, "run", lambda self, cell: [ran.append(cell.slug), fake(self, cell)][1]
    )
    out, words = tmp_path / "out", [f"plugin={mine}", "strategy=mine_own,uniform"]
    swept(out, *words)
    copy = out / "plugins" / "mine.py"
    assert len(ran) == 7 and copy.read_text() == mine.read_text()
    first = copy.read_bytes()
    edit(mine, *EDITED)
    cells = [out / "cells" / f"mine_own-{tokens}of36" for tokens in ("18", "09")]
    with pytest.raises(ConfigError) as caught:
        swept(out, *words)
    assert str(caught.value) == (
        f"{cells[0]} {cells[1]} were made with another mine.py (their own copy is {copy}): "
        "remove them to run them again, or write another out="
    )
    swept(out, "strategy=uniform")
    swept(out, f"plugin={copy}", *words[1:])
    assert len(ran) == 7, "what the edit does not touch stays, and so does all under the copy"
    for cell in cells:
        shutil.rmtree(cell)
    swept(out, *words)
    assert ran[7:] == ["mine_own-18of36", "mine_own-09of36"]
    assert copy.read_text() == mine.read_text()
    assert (out / "plugins" / provenance.digest(first) / "mine.py").read_bytes() == first, (
        "nothing is lost"
    )


def test_a_studys_words_take_a_plugin(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a cell of before sources were written down is refused, too."""
    monkeypatch.setattr(Runner, "run", fake)
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(
        "strategies: [{spec: mine_own}, {spec: random}]\nretentions: [0.5]\nallocator: "
        "null\nworkers: 1"
    )
    words = ["study", str(file), f"plugin={mine}", *FAST, f"out={out}"]
    assert main(words) == 0
    cell = out / "cells" / "mine_own-18of36"
    settings = begun.whole(cell)
    assert settings
    code = settings["made_with"]["code"]
    assert "mine.py" in code and "tokenprune/ops.py" in code
    vanilla = begun.whole(out / "cells" / "vanilla-36of36")
    assert vanilla and "mine.py" not in vanilla["made_with"]["code"]
    del settings["made_with"]["code"]
    begun.write(cell, settings)
    capsys.readouterr()
    assert main(words) == 2
    assert f"{cell} is not a cell of a study" in capsys.readouterr().err
