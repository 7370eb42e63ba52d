"""Rows of results as a table: in a terminal, as Markdown, HTML and LaTeX, as CSV and Parquet.

A row is a mapping by names of columns. For people a cell is what `Column.text` says; files hold the
values themselves, fractions and not per cents, empty where nothing is known.
"""

from __future__ import annotations

import csv as comma_separated
import html as markup
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenprune.results.columns import Column, Row

if TYPE_CHECKING:
    from rich.table import Table

_UNBOUNDED = 10_000  # characters, more than any table takes
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "Δ": r"$\Delta$",
}


def terminal(
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    upright: bool = False,
    sections: Sequence[int] = (),
) -> Table:
    """`upright`: a column for each row; `sections` are the rows that a line follows."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    heading, lines = _cells(rows, columns)
    left = [column.kind is str for column in columns]
    if upright:
        names = map(_one_line, heading)
        heading, *lines = (list(line) for line in zip(names, *lines, strict=True))
        left = [True] + [False] * len(rows)
    table = Table(box=SIMPLE_HEAD, collapse_padding=True)
    for title, text in zip(heading, left, strict=True):
        table.add_column(Text(title), justify="left" if text else "right", no_wrap=True)
    for place, line in enumerate(lines):
        table.add_row(*map(Text, line), end_section=place in sections)
    return table


def fits(drawn: Table, width: int) -> bool:
    """Whether a terminal of `width` characters shows a table without breaking its lines."""
    from rich.console import Console

    return Console(width=_UNBOUNDED).measure(drawn).maximum <= width


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A table of GitHub's Markdown."""
    heading, lines = _cells(rows, columns)
    rule = ["--" if column.kind is str else "--:" for column in columns]
    escaped = [[_one_line(cell).replace("|", r"\|") for cell in line] for line in (heading, *lines)]
    escaped.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def html(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A `<table>` without any style."""
    heading, lines = _cells(rows, columns)
    parts = ["<table>", _html_row("th", heading)]
    parts += [_html_row("td", line) for line in lines]
    return "\n".join([*parts, "</table>"])


def latex(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A `tabular` with the rules of booktabs."""
    heading, lines = _cells(rows, columns)
    sides = "".join("l" if column.kind is str else "r" for column in columns)
    parts = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", _latex_row(heading), r"\midrule"]
    parts += [_latex_row(line) for line in lines]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"])


def csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Six digits; empty where a value is not known."""
    text = io.StringIO()
    out = comma_separated.writer(text, lineterminator="\n")
    names = [name for column in columns for name in column.fields]
    out.writerow(names)
    for row in _checked(rows, columns):
        out.writerow([six_digits(row.get(name)) for name in names])
    return text.getvalue()


def parquet(rows: Sequence[Row], columns: Sequence[Column]) -> bytes:
    """The same with types, numbers in full."""
    import pyarrow
    from pyarrow.parquet import write_table

    sink = pyarrow.BufferOutputStream()
    write_table(arrow(rows, columns), sink)
    return sink.getvalue().to_pybytes()


def arrow(rows: Sequence[Row], columns: Sequence[Column]) -> Any:
    """A `pyarrow.Table`."""
    import pyarrow

    types = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64()}
    fields = {name: kind for column in columns for name, kind in column.fields.items()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in fields.items()])
    lines = [{name: row.get(name) for name in fields} for row in _checked(rows, columns)]
    return pyarrow.Table.from_pylist(lines, schema=schema)


def _cells(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a list of texts for each row."""
    heading = [column.title(rows) for column in columns]
    known = _checked(rows, columns)
    return heading, [[column.text(row) for column in columns] for row in known]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _html_row(tag: str, cells: Sequence[str]) -> str:
    inside = "".join(f"<{tag}>{markup.escape(_one_line(cell))}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"


def _latex_cell(cell: str) -> str:
    text = "".join(_LATEX.get(sign, sign) for sign in _one_line(cell))
    # the end of the row before would take these for its own
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _checked(rows: Sequence[Row], columns: Sequence[Column]) -> Sequence[Row]:
    """The rows; ValueError where a number is not one."""
    names = [name for column in columns for name in column.fields]
    for row in rows:
        for name in names:
            if isinstance(value := row.get(name), float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}: write None where it is not known")
    return rows


def six_digits(value: Any) -> Any:
    """A value as a CSV file has it: fractions with six digits, others as they are."""
    return f"{value:.6g}" if isinstance(value, float) else value
