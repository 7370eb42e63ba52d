"""Analogues: a table's grid on the embedded models, its numbers, claims, words and pictures."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.lookup import STRATEGIES
from tokenprune.options import typed
from tokenprune.plugins import load_plugins
from tokenprune.reproduce.config import parse
from tokenprune.reproduce.files import read_table
from tokenprune.reproduce.grids import analogue, grid
from tokenprune.reproduce.grids import screen as grid_screen
from tokenprune.reproduce.grids import words as grid_words
from tokenprune.reproduce.grids.analogue import run
from tokenprune.reproduce.grids.analogues import having
from tokenprune.reproduce.grids.arms import arms, at_budget, cell_of, control, plugins
from tokenprune.reproduce.grids.grid import CONTROL, FULL, METHOD, Grid
from tokenprune.reproduce.parts import Analogue
from tokenprune.reproduce.schema import Table
from tokenprune.strategy import Extent
from tokenprune.study.workers import work

EXTENT = Extent(16, 36, 6)
SHIPPED = having(parse(["all"]))


def asked(**words: Any) -> Analogue:
    return typed("analogue", words, Analogue)


def test_every_method_stands_at_every_point_of_the_axes_that_concern_it() -> None:
    found = arms(
        asked(
            methods=[
                {"strategy": "visionzip", "label": "alone"},
                {"strategy": "visionzip+dytok"},
                {"strategy": "visionzip+dytok", "label": "self", "assistant": "self"},
            ],
            assistant="nano",
            axes={"dytok.layers": [[0, 1], [4, 5]], "frames": [8]},
            keep=[0.5, 0.25],
        )
    )
    assert [arm.label for arm in found] == [
        "alone, keep 50 %",
        "alone, keep 25 %",
        "visionzip+dytok, layers=[0,1], keep 50 %",
        "visionzip+dytok, layers=[0,1], keep 25 %",
        "visionzip+dytok, layers=[4,5], keep 50 %",
        "visionzip+dytok, layers=[4,5], keep 25 %",
        "self, layers=[0,1], keep 50 %",
        "self, layers=[0,1], keep 25 %",
        "self, layers=[4,5], keep 50 %",
        "self, layers=[4,5], keep 25 %",
    ]
    assert {arm.method: arm.assistant for arm in found} == {
        "alone": None,
        "visionzip+dytok": "nano",
        "self": "self",
    }
    assert {arm.frames for arm in found} == {8}
    assert found[2].at == {"dytok.layers": [0, 1], "keep": 0.5}  # one number of frames is no axis
    assert found[2].options == {"dytok.layers": [0, 1]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"axes": {"fastv.layer": [1, 2]}}, "no method has fastv.layer"),
        ({"methods": [{"strategy": "dycoke"}, {"strategy": "dycoke"}]}, "called 'dycoke'"),
    ],
)
def test_a_grid_that_contradicts_itself_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arms(asked(**{"methods": [{"strategy": "dycoke"}], **words}))


def test_a_budget_that_cannot_be_names_the_method() -> None:
    (arm,) = arms(asked(methods=[{"strategy": "dycoke", "label": "ours"}], keep=[0.1]))
    with pytest.raises(ConfigError, match=r"analogue: ours: dycoke retains 25\.0% to 100\.0%"):
        cell_of(arm, EXTENT, 0)


def test_a_cell_is_found_again_by_what_runs_and_not_by_its_name() -> None:
    methods = [
        {"strategy": "visionzip+dytok", "label": "a", "options": {"dytok.layers": [4, 5]}},
        {"strategy": "visionzip+dytok", "label": "b"},  # the last third of six layers
        {"strategy": "visionzip+dytok", "label": "c", "assistant": "nano"},
        {"strategy": "visionzip+dytok", "label": "d", "options": {"dytok.layers": [4, 5]}},
    ]
    slugs = [cell_of(arm, EXTENT, 0).slug for arm in arms(asked(methods=methods))]
    assert slugs[0] == slugs[3]
    assert len({*slugs}) == 3  # how options are written counts, as in a study
    assert all(slug.startswith("visionzip+dytok-") for slug in slugs)


def test_controls_have_the_tokens_that_were_measured() -> None:
    (arm,) = arms(asked(methods=[{"strategy": "dycoke"}]))
    cell = at_budget(cell_of(arm, EXTENT, 0), 0.4583)
    assert (cell.tokens, cell.budget) == (264, 264 / 576)
    beside = control("random", cell, seed=3)
    (strategy,) = beside.pipeline.strategies  # pyright: ignore[reportOptionalMemberAccess]
    assert (beside.tokens, strategy.seed) == (264, 3)  # pyright: ignore[reportAttributeAccessIssue]
    assert round(strategy.keep * 576) == 264  # pyright: ignore[reportAttributeAccessIssue]


# what the project ships


@pytest.mark.parametrize("id_", SHIPPED)
def test_every_shipped_analogue_can_be_run(id_: str) -> None:
    table = read_table(id_)
    assert table.analogue is not None
    load_plugins(plugins(id_, table.analogue))
    found = arms(table.analogue)
    assert [cell_of(arm, EXTENT._replace(frames=arm.frames), 0) for arm in found]
    labels = {row.label for row in table.rows}
    assert {arm.stands_for for arm in found if arm.stands_for} <= labels


@pytest.mark.parametrize("id_", SHIPPED)
def test_shipped_figures_are_those_of_the_file(id_: str) -> None:
    """Every cell is there, with both controls at its tokens, and every claim that was asked."""
    table, found = read_table(id_), grid.read(grid.committed(id_))
    assert table.analogue is not None and found is not None
    load_plugins(plugins(id_, table.analogue))
    wanted = arms(table.analogue)
    assert sorted(line.label for line in found.of(METHOD)) == sorted(arm.label for arm in wanted)
    assert (found.model, found.task) == (table.analogue.model, table.analogue.task)
    assert found.samples == table.analogue.samples >= 100
    assert found.translated == table.analogue.translated
    for line in found.of(METHOD):
        assert not line.errors
        assert line.to_full and line.to_random and line.to_uniform
        for name in ("random", "uniform"):
            beside = [one for one in found.of(CONTROL, line.frames) if one.method == name]
            assert min(abs(one.retention - line.retention) for one in beside) < 0.2
    assert [len(found.of(FULL, frames)) for frames in found.frames] == [1] * len(found.frames)
    said = {claim.says for claim in table.claims if claim.analogue}
    assert {told.says for told in found.claims} == said


def test_the_ones_that_were_asked_for_are_shipped() -> None:
    tables = {"dycoke": ("table5", "figure5"), "dytok": ("table3", "table4", "table12", "table13")}
    assert {f"{paper}/{name}" for paper, names in tables.items() for name in names} <= {*SHIPPED}


# a run


@pytest.fixture(scope="module")
def small() -> Table:
    """Two methods, one of them a plug-in, with nano on a few samples of eight frames."""
    return dataclasses.replace(
        read_table("dycoke/table5"),
        claims=[],
        analogue=asked(
            model="nano",
            frames=8,
            samples=3,
            methods=[
                {"strategy": "dycoke", "options": {"dycoke.layer": 1}},
                {
                    "strategy": "dycoke_random",
                    "options": {"dycoke_random.layer": 1},
                    "plugin": "random_choice.py",
                },
            ],
        ),
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("analogues")


@pytest.fixture(scope="module")
def alone() -> Iterator[list[int]]:
    """Cells run in this process; how many each call had to run."""
    calls: list[int] = []

    def alone(config: Any, jobs: Any, workers: int) -> None:
        calls.append(len(jobs))
        work(config, jobs, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenprune.study.run.work", alone)
        yield calls


@pytest.fixture(scope="module")
def made(small: Table, out: Path, alone: list[int]) -> Grid:
    known = set(STRATEGIES.defined)
    found = run("dycoke/table5", small, parse([f"out={out}"]), "tokenprune reproduce")
    # a fixture of a module is older than what takes a test's plug-ins away
    for name in set(STRATEGIES.defined) - known:
        if not STRATEGIES.defined[name].__module__.startswith("tokenprune."):
            del STRATEGIES.defined[name]
    return found


def test_a_run_has_the_full_model_methods_and_controls_at_their_tokens(
    made: Grid, small: Table, out: Path, alone: list[int]
) -> None:
    assert [line.label for line in made.lines] == [
        "full model",
        "dycoke",
        "dycoke_random",
        "random, 45.8 %",
        "uniform, 45.8 %",
    ]
    full, *methods, random, uniform = made.lines
    assert full.retention == 100
    assert {line.retention for line in (*methods, random, uniform)} == {methods[0].retention}
    assert all(line.decode < line.retention for line in methods)
    assert full.to_full is None and random.to_random is None
    for line in methods:
        for difference, other in ((line.to_full, full), (line.to_uniform, uniform)):
            assert difference is not None
            assert difference.value == pytest.approx(line.score.value - other.score.value)
            assert difference.low is None  # one sample of each category cannot tell
    again = run("dycoke/table5", small, parse([f"out={out}"]), "tokenprune reproduce")
    assert alone == [3, 2, 0, 0]  # methods, then their controls; then nothing
    assert again.lines == made.lines


def test_figures_come_back_from_their_file_as_they_were(made: Grid, tmp_path: Path) -> None:
    file = grid.own(tmp_path, "dycoke/table5")
    grid.write(file, made)
    first, text = grid.read(file), file.read_bytes()
    assert first is not None
    grid.write(file, first)
    assert file.read_bytes() == text
    assert grid_words.rows(first) == grid_words.rows(made)
    assert grid_words.setting(first) == grid_words.setting(made)
    assert grid.read(tmp_path / "none.json") is None
    file.write_text("{}")
    with pytest.raises(ConfigError, match="does not hold an analogue's figures: remove it"):
        grid.read(file)


def test_it_says_that_it_is_no_reproduction(made: Grid) -> None:
    sentence = (
        "Analogue on the embedded model, 3 synthetic samples. It shows that the grid runs and how "
        "the method behaves there. It is not a reproduction."
    )
    assert grid_words.head(made) == sentence
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(grid_screen.screen("title", made))
    shown = " ".join(console.export_text().split())
    assert sentence in shown
    assert "dycoke_random 45.8 %" in shown and "random, 45.8 % 45.8 %" in shown
    assert "seed 0, greedy answers of at most 48 tokens, float32" in shown


def test_the_command_names_tables_that_have_an_analogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "dytok/table1", "analogue=true"]) == 2
    assert "dytok/table1 has no analogue on the embedded models" in capsys.readouterr().err
    assert main(["reproduce", "dytok/table14", "analogue=true", "plan=true"]) == 0
    assert "dytok/table14: 12 methods and 1 full model on 105" in capsys.readouterr().out


def test_a_table_without_an_analogue_is_refused(out: Path) -> None:
    with pytest.raises(ConfigError, match="dytok/table1 has no analogue"):
        analogue.run("dytok/table1", read_table("dytok/table1"), parse([f"out={out}"]), "")
