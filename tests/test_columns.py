"""One table of columns, and its renderers; finished runs read back."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import tokenprune
from tokenprune.cli.details import details
from tokenprune.errors import ConfigError
from tokenprune.evaluation.run import Finished
from tokenprune.results import columns, table
from tokenprune.results.answer import ROLES, Answer, subject_of
from tokenprune.results.column import Column, paired_fields
from tokenprune.results.record import write
from tokenprune.results.report import report
from tokenprune.results.statistics import Paired
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting, Summary
from tokenprune.results.system import System

NAME, SHARE = Column("name", "a|b", "", str), Column("share", "50 %_of", "", unit="%")
AWKWARD = r"a|b <i> & 5 % of x_y {z} \n #1 $2 [bold]~^"
ROWS: list[dict[str, Any]] = [
    {"name": AWKWARD, "share": 0.5},
    {"name": "[c]", "share": None},
    {"name": "d", "share": "unreachable"},
]


def systems(roles: tuple[str, ...] = ROLES) -> list[System]:
    """Ten samples; every system kept 0.5 of the tokens, and looked at its number of rows."""
    made = []
    for place, role in enumerate(roles):
        answers = [
            Answer(
                index,
                f"s{index}",
                "ab"[index % 2],
                "What?",
                "red",
                prediction="red",
                score=float((index + place) % 3 > 0),
                tokens={"full": 288, "layer_average_ratio": 0.5, "rows_seen": 10 * place + index},
                time={"prefill_ms": 2.0},
            )
            for index in range(10)
        ]
        made.append(System(role, role, None, answers))
    return made


def summed(cast: list[System]) -> Summary:
    summary = summarise(cast, Setting(task="tinyvqa", frames=8))
    return replace(summary, environment={"device": "cpu", "dtype": "float32"})


def printed(shown: Any, width: int = 200) -> str:
    console = Console(width=width, file=StringIO(), record=True)
    console.print(shown)
    return console.export_text()


def test_a_column_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured with the tokens, named in the table: then it is in every place."""
    new = Column(
        "rows_seen",
        "rows\nseen",
        "rows that a new measurement has seen",
        of=lambda answer: answer.tokens.get("rows_seen"),
    )
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, new))
    summary = summed(systems())
    assert summary.as_dict()["systems"]["strategy"]["rows_seen"] == 24.5
    text = printed(details(Finished(Path("runs/a"), summary, []), 200))
    assert "rows" in text and "24.5" in text
    rows = summary.rows()
    present = columns.present(rows)
    for render in (table.markdown, table.html, table.latex):
        assert "rows seen" in render(rows, present) and "24.5" in render(rows, present)
    (own,) = (
        row
        for row in csv.DictReader(io.StringIO(table.csv(rows, present)))
        if row["role"] == "strategy"
    )
    assert own["rows_seen"] == "24.5"
    assert table.arrow(rows, present).column("rows_seen").to_pylist() == [4.5, 14.5, 24.5]
    assert "| rows seen |" in report(summary, systems())
    assert "rows seen: rows that a new measurement has seen" in report(summary, systems())
    assert "`rows_seen`" in columns.columns_markdown()


def test_names_are_said_once() -> None:
    fields = [name for column in columns.COLUMNS for name in column.fields]
    assert len(set(fields)) == len(fields)
    assert all(column.meaning for column in columns.COLUMNS)
    assert all(column.averaged in columns.AVERAGES for column in columns.measured())


def test_markdown_escapes() -> None:
    lines = table.markdown(ROWS, (NAME, SHARE)).splitlines()
    assert lines[0] == r"| a\|b | 50 %_of % |" and lines[1] == "| -- | --: |"
    assert lines[2].startswith(r"| a\|b ") and lines[2].endswith("| 50.0 |")
    assert lines[3] == "| [c] | - |" and lines[4] == "| d | unreachable |"


def test_html_escapes() -> None:
    class Cells(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []
            self.tags: set[str] = set()

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.tags.add(tag)

        def handle_data(self, data: str) -> None:
            self.found.append(data)

    parser = Cells()
    parser.feed(table.html(ROWS, (NAME, SHARE)))
    assert parser.tags == {"table", "tr", "th", "td"} and AWKWARD in parser.found
    assert "<i>" not in table.html(ROWS, (NAME, SHARE))


def test_latex_escapes() -> None:
    text = table.latex(ROWS, (NAME, SHARE))
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule\n") and "\\bottomrule" in text
    for piece in (r"\textbar{}", r"\textless{}i\textgreater{}", r"\&", r"5 \%", r"x\_y", r"\{z\}"):
        assert piece in text
    assert r"\textbackslash{}n" in text and r"\#1 \$2" in text and r"\textasciitilde{}" in text
    assert "\n{}[c] & - \\\\" in text, "or it would be an argument of the line break before"
    assert r"$\Delta$ vanilla" in table.latex([{}], columns.named("to_vanilla"))


def test_terminal_takes_no_markup() -> None:
    text = printed(table.terminal(ROWS, (NAME, SHARE)))
    assert "[bold]" in text and "unreachable" in text
    upright = printed(table.terminal(ROWS, (NAME, SHARE), upright=True))
    assert "50 %_of %" in upright and "unreachable" in upright


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_not_written(value: float) -> None:
    rows = [{"name": "a", "share": value}]
    for render in (table.markdown, table.html, table.latex, table.csv, table.parquet):
        with pytest.raises(ValueError, match=r"share is .*: write None where it is not known"):
            render(rows, (NAME, SHARE))


def test_csv_and_parquet_hold_the_same() -> None:
    import pyarrow
    from pyarrow.parquet import read_table

    rows = [
        {
            **paired_fields("to_vanilla", Paired(-0.125, [-0.25, 0.0], 0.04, None, 0.08)),
            "samples": 3,
        },
        {"samples": 4},
    ]
    wanted = columns.named("to_vanilla", "samples")
    first, second = csv.DictReader(io.StringIO(table.csv(rows, wanted)))
    assert first == {
        "to_vanilla": "-0.125",
        "to_vanilla_low": "-0.25",
        "to_vanilla_high": "0",
        "to_vanilla_p": "0.04",
        "to_vanilla_p_holm": "0.08",
        "samples": "3",
    }
    assert second["to_vanilla"] == "" and second["samples"] == "4"
    read = read_table(pyarrow.BufferReader(table.parquet(rows, wanted)))
    assert read.column_names == list(first) and read["to_vanilla"].to_pylist() == [-0.125, None]


def test_a_star_is_a_claim_and_a_run_makes_none() -> None:
    (change,) = columns.named("to_vanilla")
    found = Paired(-0.2, [-0.3, -0.1], 0.001, 0.03, 0.02)
    swept = paired_fields("to_vanilla", found)
    assert change.text(swept) == "-20.0\n[-30.0, -10.0] *"
    assert change.text({**swept, "to_vanilla_mcnemar_p": 0.03}) == "-20.0 p=0.030\n[-30.0, -10.0]"


def written(folder: Path, roles: tuple[str, ...] = ROLES) -> Path:
    cast = systems(roles)
    folder.mkdir(parents=True)
    write(folder, summed(cast), cast, {}, {}, {})
    return folder


@pytest.mark.parametrize("roles", [ROLES, ("vanilla",), ("strategy",), ("vanilla", "random")])
def test_a_run_is_read_back(roles: tuple[str, ...], tmp_path: Path) -> None:
    run: Any = tokenprune.read(written(tmp_path / "run", roles))
    cast = systems(roles)
    assert run.summary == summed(cast) and run.roles == list(roles)
    assert [set(record) & set(ROLES) for record in run.records] == [set(roles)] * 10
    for system in cast:
        assert run.answers(system.name) == list(system.answers)
    assert run.answers() == run.answers(subject_of(roles))
    lines = list(run.lines())
    assert len(lines) == 10 * len(roles) and lines[0]["prefill_ms"] == 2.0
    assert run.table().num_rows == len(lines)


def test_cells_are_read_together(tmp_path: Path) -> None:
    for name, role in (("a", "vanilla"), ("b", "strategy")):
        written(tmp_path / "cells" / name, (role,))
    (tmp_path / "cells" / "unfinished").mkdir()
    runs: Any = tokenprune.read(str(tmp_path))
    assert [run.folder.name for run in runs] == ["a", "b"] and len(runs) == 2
    assert {(line["run"], line["role"]) for line in runs.lines()} == {
        ("a", "vanilla"),
        ("b", "strategy"),
    }


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        tokenprune.read(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is not a run"):
        tokenprune.read(tmp_path)
    folder = written(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    del summary["systems"]["vanilla"]["score"]
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ConfigError, match="is damaged"):
        tokenprune.read(folder)


def test_a_data_frame_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = tokenprune.read(written(tmp_path / "run"))
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        run.to_pandas()
