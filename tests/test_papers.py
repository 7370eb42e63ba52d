"""The files of the papers' tables: every printed figure, setting and command of the data."""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tokenprune import registry
from tokenprune.evaluation.config import parse
from tokenprune.plugins import load_plugins
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import home, ids, papers, read_paper, read_table, tables
from tokenprune.reproduce.jobs import job_of
from tokenprune.reproduce.pages.tables import words
from tokenprune.reproduce.schema import Column, Row, Table

DATA = Path(__file__).parent / "data" / "paper_tables.json"
ROOT = Path(__file__).parent.parent
ENTRIES: dict[str, Any] = {one["id"]: one for one in json.loads(DATA.read_text(encoding="utf-8"))}
# names that files use for models that the data spells out
LONG = {size: f"LLaVA-OneVision-{size}" for size in ("0.5B", "7B", "72B")}
OTHERS_GUIDES = ("dytok/table9",)  # where 7B is no LLaVA-OneVision, and no row's model

table_of = functools.cache(read_table)


def in_full(name: Any) -> Any:
    return LONG.get(name, name)


def same(ours: Any, printed: Any) -> bool:
    """Equal, and written alike: 100 is not 100.0."""
    return type(ours) is type(printed) and ours == printed


def test_every_entry_is_a_file_and_every_file_an_entry():
    assert sorted(ids()) == sorted(ENTRIES)
    assert len(ENTRIES) == 86
    for paper in papers():
        files = {file.stem for file in (home() / paper).glob("*.yaml")} - {"paper"}
        assert files == set(read_paper(paper).tables)


def test_the_papers_are_opened_from_the_root():
    for paper in papers():
        link = ROOT / "experiments" / paper
        assert link.resolve() == home() / paper, f"experiments/{paper} is no link to its files"


@pytest.mark.parametrize("id_", ENTRIES)
def test_a_file_holds_what_is_printed(id_):
    entry, table = ENTRIES[id_], table_of(id_)
    assert table.source == entry["source"]
    assert table.provenance == entry["provenance"]
    assert " ".join(table.remarks) == entry["remarks"]
    assert list(table.columns) == entry["columns"]
    assert [row.method for row in table.rows] == [row["method"] for row in entry["rows"]]
    for ours, printed in zip(table.rows, entry["rows"], strict=True):
        assert ours.provenance == printed.get("provenance")
        assert [*map(same, ours.printed, printed["values"].values())] == [True] * len(ours.printed)


@pytest.mark.parametrize("id_", ENTRIES)
def test_a_file_has_the_settings_that_are_printed(id_):
    entry, table = ENTRIES[id_], table_of(id_)
    for ours, printed in zip(table.rows, entry["rows"], strict=True):
        told = {**ours.settings}
        if "model" in told:
            told["model"] = in_full(told["model"])
        assert told == printed["settings"]
        assert in_full(table.setting(ours, "model")) == printed["settings"].get(
            "model", entry["model"]
        )
        assert table.setting(ours, "frames") == printed["settings"].get("frames", entry["frames"])
    assert table.defaults.get("frames") == entry["frames"]
    if not table.rows:
        assert in_full(table.defaults.get("model")) == entry["model"]


def test_all_printed_figures_are_there():
    printed = [value for _, table in tables() for row in table.rows for value in row.printed]
    assert sum(value is not None for value in printed) == 3_822


def test_every_row_that_needs_a_run_has_one_or_says_why_not():
    for id_, table in tables():
        needs = any(one.from_ in ("score", "judged", "speed") for one in table.columns.values())
        for row in table.rows:
            if needs:
                assert row.run or row.blocked, f"{id_}, {row.label}"


def test_names_of_models_are_known():
    for id_, table in tables():
        for row in table.rows:
            if row.run is not None:
                assert (row.run.model or table.setting(row, "model")) in table.models, (
                    f"{id_}, {row.label}"
                )
                assert row.run.assistant is None or row.run.assistant in table.models


RUNS = sorted(
    {
        (id_.partition("/")[0], row.run.plugin, row.run.strategy, json.dumps(row.run.options))
        for id_, table in tables()
        for row in table.rows
        if row.run is not None
    },
    key=str,
)


@pytest.mark.parametrize(("paper", "plugin", "strategy", "options"), RUNS)
def test_what_is_run_can_be_built_for_every_depth(paper, plugin, strategy, options):
    if plugin is not None:
        load_plugins([str(home() / paper / plugin)])
    pipeline = registry.build(strategy, json.loads(options))
    for depth in (24, 28, 80):
        assert pipeline.check(depth) is pipeline


@pytest.mark.parametrize("kind", ["score", "speed"])
def test_a_plug_in_is_found_beside_its_table(kind):
    table = read_table("dycoke/table5")
    row = next(row for row in table.rows if row.run is not None and row.run.plugin)
    column = Column(kind, task="videomme", measure="prefill_ms")
    job = job_of("dycoke/table5", table, row, column, ReproduceConfig())
    assert job is not None and job.kind == kind
    (file,) = job.words["plugin"]
    assert Path(file).is_file() and job.told["plugin"] == ["random_choice.py"] and job.digest


def repeats() -> list[tuple[str, Table, Row]]:
    return [(id_, one, row) for id_, one in tables() for row in one.rows if row.same_as]


@pytest.mark.parametrize(("id_", "table", "row"), repeats(), ids=lambda part: str(part)[:30])
def test_a_row_that_repeats_another_is_equal_to_it(id_, table, row):
    place, _, name = row.same_as.partition(": ")
    other_table = table_of(place)
    (other,) = (one for one in other_table.rows if one.label == name)
    assert place != id_
    assert row.run == other.run
    shared = [
        column for column, told in table.columns.items() if other_table.columns.get(column) == told
    ]
    assert len(shared) >= 2
    for column in shared:
        assert table.printed(row, column) == other_table.printed(other, column), column


def test_what_is_run_can_be_copied_from_a_page():
    for id_, table in tables():
        for row in table.rows:
            if row.run is not None:
                config = parse(shlex.split(words(table, row, row.run)))
                assert config.strategy == row.run.strategy, f"{id_}, {row.label}"
                assert config.options == row.run.options
                assert config.frames == (row.run.frames or table.setting(row, "frames"))
