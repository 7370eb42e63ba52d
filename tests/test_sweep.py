"""The sweep: its words, its grid, its table against the cells it is made of, resumption, and one
writer per folder.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import read_table
from rich.console import Console

from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import parse
from tokenprune.registry import resolve
from tokenprune.results.answer import Answer
from tokenprune.results.read import Runs, read
from tokenprune.storage import NAMES, exclusive
from tokenprune.strategy import Extent
from tokenprune.study import cell_files
from tokenprune.study.grid import plan_grid
from tokenprune.study.plan import Cell
from tokenprune.study.run import Swept, sweep
from tokenprune.study.runner import Runner, check_scored
from tokenprune.study.screen import swept
from tokenprune.study.sweep import parse_sweep, variants
from tokenprune.tasks import build
from tokenprune.tasks.cached import Kept

SMALL = ["frames=8", "samples=4", "max_new_tokens=3", "device=cpu", "workers=1"]
EXTENT = Extent(16, 36, 6)
GRID = ["strategy=dycoke,fastv,random+dytok", "keep=0.5,0.1", "fastv.layer=1"]


def ran(*words: str) -> Swept:
    return sweep(parse_sweep(words))


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").read_text(encoding="utf-8").splitlines()))


def shown(done: Swept) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(swept(done))
    return captured.get()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to sweep: write strategy=NAME,NAME"),
        (["strategy="], "strategy= is empty: write strategy=VALUE"),
        (["strategy=dycoke,,fastv"], "nothing between two commas: write strategy=dycoke,fastv"),
        (["strategy=dycoke,dycok"], "unknown strategy 'dycok': did you mean 'dycoke'?"),
        (["strategy=dycoke,dycoke"], "strategy= names dycoke twice: leave one of them out"),
        (["strategy=none"], "none is the full model, which every sweep has: leave it out"),
        (["strategy=dytok"], "dytok only redistributes another strategy's budget: write one of"),
        (
            ["strategy=visionzip+fastv"],
            "keep= sets the budget of one strategy, and visionzip+fastv has visionzip and",
        ),
        (["dycoke,fastv"], "'dycoke,fastv' is not KEY=VALUE: write strategy=dycoke,fastv"),
        (
            ["strategy=dycoke", "keep=0"],
            "keep=0 is not a fraction above 0 and up to 1: write keep=0.5,0.25",
        ),
        (
            ["strategy=dycoke", "keep=25"],
            "keep=25 is not a fraction above 0 and up to 1: write keep=0.25",
        ),
        (["strategy=dycoke", "keep=nan"], "keep=nan is not a number"),
        (
            ["strategy=dycoke", "keep=abc"],
            "keep=abc is not a number: write keep=0.5,0.25",
        ),
        (["strategy=dycoke", "keep="], "keep= is empty"),
        (["strategy=dycoke", "keep=0.5,0.5"], "keep= names 0.5 twice"),
        (
            ["strategy=dycoke", "keep=0.5,0.501"],
            "keep=0.5 and keep=0.501 are both 18 of the 36 tokens of a frame",
        ),
        (
            ["strategy=dycoke", "keep=1"],
            "keep=1 is the full model, which every sweep has: add smaller ones",
        ),
        (
            ["strategy=dycoke", "keep=0.5", "keep=0.25"],
            "keep= is given twice: write keep=A,B for several",
        ),
        (
            ["strategy=dycoke", "kep=0.5"],
            "unknown key 'kep': did you mean keep=? Keys: strategy, keep, assistant, out, model",
        ),
        (["strategy=dycoke", "samples=0"], "samples=0 is too few: write at least 1"),
        (
            ["strategy=dycoke", "frames=many"],
            "frames=many is not a whole number: write frames=NUMBER",
        ),
        (["strategy=dycoke", "frames=4"], "frames must be at least 8"),
        (["strategy=dycoke", "task=tinyvqua"], "unknown task 'tinyvqua'"),
        (["strategy=dycoke", "model=atlantis"], "there is no model 'atlantis'"),
        (
            ["strategy=dycoke", "fastv.layer=1"],
            "fastv.layer= is an option of no strategy in strategy=dycoke: add fastv",
        ),
        (["strategy=fastv", "fastvv.layer=1"], "did you mean fastv.layer=?"),
        (
            ["strategy=fastv", "trainer.devices=2"],
            "trainer.devices= is a key of `tokenprune run`: cells take trainer.logger=",
        ),
        (["strategy=fastv", "fastv.layers=1"], "fastv.layers=1: Key 'layers' not in"),
        (["strategy=fastv", "fastv.layer="], "fastv.layer= is empty"),
        (["strategy=fastv", "fastv.layer=1,1"], "fastv.layer= names 1 twice"),
        (["strategy=fastv", "fastv.layer=9"], "fastv.layer=9 prunes nothing"),
        (
            ["strategy=fastv", "fastv.drop=0.3"],
            "keep= sets fastv.drop of fastv (drop=0.3): leave fastv.drop= out",
        ),
        (
            ["strategy=random", "random.seed=0,1"],
            "random (seed=0) and random are the same: leave one of them out",
        ),
        (["strategy=fastv,fastv+none"], "fastv and fastv+none are the same: leave one of them out"),
        (
            ["strategy=fastv", "assistant=nano"],
            "no strategy has one: add +dytok to one, or leave it out",
        ),
        (["strategy=fastv+dytok", "assistant=atlantis"], "there is no model 'atlantis'"),
    ],
)
def test_a_mistake_says_what_to_write_and_nothing_is_written(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\S") as caught:
        ran(*words)
    text = str(caught.value)
    assert message in text and "\n" not in text
    assert not list(tmp_path.iterdir())


def test_options_multiply_the_grid() -> None:
    config = parse_sweep(
        [
            "strategy=fastv,fastv+dytok,dycoke",
            "fastv.layer=1,2",
            "dytok.layers=[1,2],[3]",
            "dycoke.follow=released",
        ]
    )
    assert [variant.label for variant in variants(config)] == [
        *("fastv (layer=1)", "fastv (layer=2)"),
        *(
            f"fastv+dytok (fastv.layer={a}, dytok.layers={b})"
            for a in (1, 2)
            for b in ("[1,2]", "[3]")
        ),
        "dycoke (follow=released)",
    ]
    assert variants(config)[3].options == {"fastv.layer": 1, "dytok.layers": [3]}


def test_a_grid_has_the_full_model_and_the_control_at_every_budget() -> None:
    words = ["strategy=fastv+dytok,random+dytok", "keep=1,0.5,0.25", "assistant=nano"]
    _, cells = plan_grid(parse_sweep(words), EXTENT)
    names = [(cell.method, cell.tokens, cell.guided_by) for cell in cells]
    each = [("fastv+dytok", "nano"), ("random+dytok", "nano"), ("random", None)]
    assert names == [
        ("vanilla", 36, None),
        *((name, tokens, guide) for tokens in (18, 9) for name, guide in each),
    ]
    assert {cell.tokens: cell.requested for cell in cells} == {36: 1.0, 18: 0.5, 9: 0.25}
    _, listed = plan_grid(parse_sweep(["strategy=random,uniform", "keep=0.5"]), EXTENT)
    assert [cell.label for cell in listed] == ["vanilla", "random", "uniform"], (
        "listed, it is not added again"
    )


def test_the_same_words_find_the_same_folder() -> None:
    name = parse_sweep(GRID).folder
    assert name.startswith("runs/sweep-dycoke_fastv_random+dytok-")
    assert parse_sweep([*reversed(GRID), "workers=3"]).folder == name, (
        "neither order nor processes change a result"
    )
    others = [
        parse_sweep([*GRID, word]).folder
        for word in ("seed=1", "frames=8", "limit=3", "dytok.cap=9")
    ]
    assert len({name, *others}) == 5
    assert parse_sweep([*GRID, "out=here"]).folder == "here"
    long = parse_sweep(["strategy=" + ",".join(f"dycoke+strategy{i}" for i in range(9))])
    assert long.folder.startswith("runs/sweep-9-strategies-")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """One sweep on the model, that several tests look at."""
    return ran(*GRID, *SMALL, f"out={tmp_path_factory.mktemp('sweep') / 'deep' / 'out'}")


def test_what_a_sweep_writes(done: Swept) -> None:
    assert sorted(path.name for path in done.folder.iterdir()) == [
        *(
            "cells",
            "results.csv",
            "results.parquet",
            "score_over_flops.png",
            "score_over_tokens.png",
        )
    ]
    lines = rows(done.folder)
    assert {"layer_average_ratio", "flops_ratio", "score_low", "to_random_p"} <= set(lines[0])
    found = {(row["strategy"], row["keep_requested"]): row for row in lines}
    assert lines[0]["method"] == "vanilla"
    methods = ("dycoke", "fastv", "random+dytok", "random")
    assert list(found) == [
        ("none", "1"),
        *((name, keep) for keep in ("0.5", "0.1") for name in methods),
    ]
    for (name, keep), row in found.items():
        assert row["status"] == (
            "unreachable" if keep == "0.1" and name in ("dycoke", "fastv") else "ok"
        )
        assert row["options"] == ('{"fastv.layer": 1}' if name == "fastv" else "{}")
        assert (row["model"], row["task"], row["frames"], row["seed"]) == (
            "tiny",
            "tinyvqa",
            "8",
            "0",
        )
    cannot = found["dycoke", "0.1"]
    assert cannot["reason"].startswith("dycoke retains 25.0% to 100.0% here, not 11.1%")
    assert cannot["score"] == cannot["layer_average_ratio"] == "" and cannot["samples"] == "0"


def test_every_number_is_that_of_the_cells(done: Swept) -> None:
    cells = {path.name: cell_files.read(path) for path in (done.folder / "cells").iterdir()}
    lines = [row for row in rows(done.folder) if row["status"] == "ok"]
    assert len(lines) == len(cells) == 7
    # a sample each category
    mean = {name: statistics.fmean(one.score or 0.0 for one in own) for name, own in cells.items()}
    budgets = {"1": "36of36", "0.5": "18of36", "0.1": "04of36"}
    for row in lines:
        own = (
            row["method"].replace(" (layer=1)", "-layer-1-").rstrip("-")
            + "-"
            + budgets[row["keep_requested"]]
        )
        for column in ("layer_average_ratio", "input_ratio"):
            kept = statistics.fmean(one.tokens[column] for one in cells[own])
            assert float(row[column]) == pytest.approx(kept, rel=1e-5)
        flops = statistics.fmean(one.flops_ratio for one in cells[own])
        assert float(row["flops_ratio"]) == pytest.approx(flops, rel=1e-5)
        assert float(row["layer_average_ratio"]) == pytest.approx(
            float(row["budget"]), abs=0.002
        ), "equal budgets"
        assert float(row["score"]) == pytest.approx(mean[own], rel=1e-5)
        compared = {
            "to_vanilla": "vanilla-36of36",
            "to_random": f"random-{budgets[row['keep_requested']]}",
        }
        for column, other in compared.items():
            if row["method"] in (other.split("-")[0], "vanilla"):
                assert row[column] == ""
            else:
                assert float(row[column]) == pytest.approx(mean[own] - mean[other], abs=1e-5)
        assert row["score_low"] == row["to_random_high"] == "", (
            "one sample of each category tells nothing"
        )
    guided, plain = (
        next(row for row in lines if row["strategy"] == name) for name in ("random+dytok", "random")
    )
    assert float(guided["flops_ratio"]) == pytest.approx(
        1 + float(plain["flops_ratio"]), abs=0.01
    ), "its guide counts"


def test_parquet_says_the_same_with_types(done: Swept) -> None:
    lines = read_table(done.folder / "results.parquet")
    for line, row in zip(lines.to_pylist(), rows(done.folder), strict=True):
        text = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value or "")
            for name, value in line.items()
            if value != 0 or isinstance(value, float)
        }
        assert text == {name: row[name] for name in text}
    assert lines.column_names == list(rows(done.folder)[0])
    types = {name: str(lines.schema.field(name).type) for name in ("score", "samples", "reason")}
    assert types == {"score": "double", "samples": "int64", "reason": "string"}


def test_the_terminal_marks_what_cannot_be_reached(done: Swept) -> None:
    text = shown(done)
    assert "unreachable" not in text and max(map(len, text.splitlines())) <= 80
    assert text.count("dycoke cannot keep as little as 11.1 %: merging leaves 2 of 8") == 1
    assert "fastv (layer=1)" in text, "brackets are no markup"
    assert (
        "Independent samples in the smallest category: 1; resampling takes at least 5"
        in " ".join(text.split())
        and "not the papers' results" in text
    )
    assert "results.parquet" in text and str(done.folder)[:20] in text


def test_finished_cells_are_not_run_again(done: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"out={done.folder}"
    before = {path: path.read_bytes() for path in done.folder.glob("*.*")}
    shutil.rmtree(done.folder / "cells" / "random-18of36")
    labels: list[str] = []
    run = Runner.run
    monkeypatch.setattr(
        Runner, "run", lambda self, cell: [labels.append(cell.slug), run(self, cell)][1]
    )
    ran(*GRID, *SMALL, out)
    assert labels == ["random-18of36"]
    assert {path: path.read_bytes() for path in before} == before, "the same table and plots"
    with pytest.raises(
        ConfigError, match="was made with seed=0, which now is 1: write another out="
    ):
        ran(*GRID, *SMALL, out, "seed=1")
    with pytest.raises(
        ConfigError, match=r"made with max_new_tokens=3, which now is 2: .* or remove"
    ):
        ran(*GRID, *SMALL[:2], "max_new_tokens=2", *SMALL[3:], out)
    assert len(labels) == 1
    ran("strategy=dycoke", "keep=0.5", *SMALL, out)
    assert len(labels) == 1 and len(rows(done.folder)) == 3, "a part of a grid needs nothing new"


def fake(scores: dict[str, Any]) -> Any:
    """A runner whose cells answer samples of two categories with `scores` by method.

    A text is an error.
    """

    def run(self: Runner, cell: Cell) -> list[Answer]:
        names = ("layer_average_ratio", "input_ratio", "decode_ratio")
        tokens = dict.fromkeys(names, cell.budget)
        found = []
        for index, score in enumerate(scores[cell.method]):
            asked = {"index": index, "id": f"s{index}", "category": "ab"[index % 2]}
            asked |= {"question": "", "answer": ""}
            if isinstance(score, str):
                found.append(Answer(**asked, error=score))
            else:
                made = {"score": score, "tokens": tokens, "flops_ratio": cell.budget}
                found.append(Answer(**asked, **made))
        return found

    return run


def test_samples_with_errors_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scores = {
        "vanilla": [1.0] * 8 + [0.0] * 4,
        "uniform": [1.0] * 6 + ["no video"] * 2 + [0.0] * 4,
        "visionzip": ["out of memory"] * 12,
        "random": [1.0, 1.0, 0.0, 0.0] * 3,
    }
    monkeypatch.setattr(Runner, "run", fake(scores))
    done = ran("strategy=uniform,visionzip", "keep=0.5", "workers=1", f"out={tmp_path / 'out'}")
    by_name = {row["strategy"]: row for row in rows(done.folder)}
    own = by_name["uniform"]
    assert (own["samples"], own["errors"], own["score"], own["to_vanilla"]) == (
        "12",
        "2",
        "0.6",
        "0",
    )
    assert float(own["score_low"]) < 0.6 < float(own["score_high"])
    assert float(own["to_random"]) == pytest.approx(0.6 - 0.6), "of the ten that both answered"
    failed = by_name["visionzip"]
    assert (failed["status"], failed["errors"]) == ("failed", "12") and failed["score"] == ""
    assert failed["reason"] == "no sample was answered: out of memory"
    text = shown(done)
    assert (
        "60.0 [" in text
        and "(2 failed)" in text
        and "visionzip at keep=0.5: no sample was answered" in text
    )


def test_without_the_full_model_there_is_nothing_to_compare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        Runner, "run", fake({"vanilla": ["no video"], "uniform": [1.0], "random": [1.0]})
    )
    with pytest.raises(ConfigError, match="the full model answered no sample: no video"):
        ran("strategy=uniform", "keep=0.5", "workers=1", f"out={tmp_path / 'out'}")


def test_an_interruption_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(self: Runner, cell: Cell) -> list[Answer]:
        if cell.method != "vanilla":
            raise KeyboardInterrupt
        return [Answer(0, "a", "c", "", "", score=1.0)]

    monkeypatch.setattr(Runner, "run", run)
    with pytest.raises(
        KeyboardInterrupt,
        match=r"interrupted after 1 of 2 cells, which stay in .*out.cells: the same",
    ):
        ran("strategy=random", "keep=0.5", "workers=1", f"out={tmp_path / 'out'}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cells"], "no lock stays"


def test_a_limit_takes_the_first_samples() -> None:
    task = build("tinyvqa", samples=6, frames=8, seed=0)
    kept = Kept(task, 1 << 20, limit=4)
    assert len(kept) == 4 and len(Kept(task, 0)) == len(Kept(task, 0, limit=9)) == 6
    assert kept.label(3) == task.label(3) and kept.fingerprint() == task.fingerprint()
    assert kept.categories == task.categories and kept[3].id == task[3].id


def test_a_sample_whose_answer_is_not_known_has_no_score() -> None:
    answered = Answer(0, "a", "c", "", "", prediction="red")
    check_scored([Answer(0, "a", "c", "", "", error="no video")])
    with pytest.raises(ConfigError, match="the right answer of sample a is not known"):
        check_scored([answered])


def test_samples_are_kept_as_far_as_memory_is_spared() -> None:
    task = build("tinyvqa", samples=3, frames=8, seed=0)
    kept = Kept(task, spare=2 * task[0].frames.nbytes)
    assert [kept[index] is kept[index] for index in range(3)] == [True, True, False]


HOLD = """
import sys, time
from pathlib import Path
from tokenprune.storage import exclusive
with exclusive(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_one_writer_per_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "in\n"
        with pytest.raises(
            ConfigError, match=rf"out is in use by process {holder.pid} on \S+: wait until it ends"
        ):
            ran("strategy=random", "keep=0.5", f"out={folder}")
        assert {path.name for path in folder.iterdir()} <= set(NAMES), "and nothing was written"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    for _ in range(2):
        with (
            exclusive(folder),
            pytest.raises(ConfigError, match=f"process {os.getpid()} "),
            exclusive(folder),
        ):
            pass
        assert not list(folder.iterdir()), "who was killed holds nothing"
    (file := tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"), exclusive(file):
        pass


def test_what_is_shown_is_what_runs(
    done: Swept, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["sweep", *GRID, *SMALL, "print=true"]) == 0
    shown = capsys.readouterr().out
    assert "random+dytok-04of36" in shown and "dycoke retains 25.0% to 100.0% here" in shown
    (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
    again = parse_sweep([f"config={tmp_path / 'shown.yaml'}", f"out={done.folder}"])
    assert again == done.config and not (tmp_path / "runs").exists()


def test_a_cell_is_a_run(done: Swept, capsys: pytest.CaptureFixture[str]) -> None:
    cells = done.folder / "cells"
    cell = cells / "random+dytok-18of36"
    assert main(["compare", str(cells / "vanilla-36of36"), str(cell)]) == 0
    assert "random+dytok" in capsys.readouterr().out
    runs = read(done.folder)
    assert isinstance(runs, Runs)
    names = [run.folder.name for run in runs.cells]
    assert names == sorted(path.name for path in cells.iterdir())
    config = parse([f"config={cell / 'config.yaml'}"])
    pipeline = resolve(config.strategy, config.options, seed=config.seed)
    (planned,) = (row.cell for row in done.results.rows if row.cell.slug == cell.name)
    assert pipeline == planned.pipeline and (config.limit, config.frames) == (None, 8)


def test_options_are_json(done: Swept) -> None:
    assert all(isinstance(json.loads(row["options"]), dict) for row in rows(done.folder))
