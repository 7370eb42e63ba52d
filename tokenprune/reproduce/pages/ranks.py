"""The list of results, as public pages have it, with what those leave out: the budget.

Of every benchmark, model and budget the best printed figure of the paper's own method; its rank is
among the methods of the same column, model and frames that have no more tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tokenprune.reproduce import wording
from tokenprune.reproduce.cell import Cell, Key
from tokenprune.reproduce.pages.views import Lines
from tokenprune.reproduce.schema import Column, Row, Table

HEADS = (
    "task",
    "dataset",
    "metric",
    "model",
    "frames",
    "method",
    "budget",
    "protocol",
    "printed",
    "ours",
    "rank at no more tokens",
    "printed in",
)
_SHARES = ("retained_pct", "keep_pct", "nominal_keep_pct", "tokens_pct")  # of visual tokens, in %


class Budget(NamedTuple):
    """What a method may keep, in percent, and of what."""

    percent: float
    of: str = ""

    def __str__(self) -> str:
        return f"{self.percent:g} %{self.of}"


class Entry(NamedTuple):
    """A printed figure of the paper's own method."""

    key: tuple[Any, ...]  # benchmark, model, frames and budget
    better: float  # the larger, the better
    row: list[str]


def results(
    paper: str, tables: Mapping[str, Table], made: Mapping[str, Mapping[Key, Cell]]
) -> Lines | None:
    """None where the paper prints no score."""
    best: dict[tuple[Any, ...], Entry] = {}
    for id_, table in tables.items():  # figures repeat what tables print
        for entry in _entries(paper, id_, table, made[id_]):
            other = best.get(entry.key)
            if other is None or entry.better > other.better:
                best[entry.key] = entry
    rows = [entry.row for _, entry in sorted(best.items(), key=lambda one: str(one[0][:3]))]
    return Lines(list(HEADS), rows) if rows else None


def _entries(paper: str, id_: str, table: Table, made: Mapping[Key, Cell]) -> Iterator[Entry]:
    mine = own_rows(paper, table) if table.kind != "figure" else []
    for name, column in table.columns.items():
        if not _whole(column):
            continue
        for row in mine:
            printed = table.printed(row, name)
            if isinstance(printed, (int, float)) and row.same_as is None:
                yield _entry(id_, table, row, name, column, printed, made[row.label, name])


def own_rows(paper: str, table: Table) -> list[Row]:
    """Rows of the paper's own method; where it has none, all but the full model's."""
    others = [row for row in table.rows if not table.baseline or not row.matches(table.baseline)]
    return [row for row in others if paper in row.method.lower()] or others


def _whole(column: Column) -> bool:
    """A benchmark, not a part of one."""
    measured = column.from_ in ("score", "judged") or bool(column.task)
    return measured and not column.part and not column.lower


def _entry(
    id_: str, table: Table, row: Row, name: str, column: Column, printed: float | int, cell: Cell
) -> Entry:
    model, frames = table.setting(row, "model"), table.setting(row, "frames")
    budget = budget_of(table, row)
    shown = [
        "judged answers" if column.from_ == "judged" else "video questions",
        column.label or name,
        column.metric or "as printed",
        str(model or "-"),
        str(frames or "-"),
        row.method,
        str(budget or "not printed"),
        table.protocol or "not recorded",
        wording.figure(printed, column),
        wording.ours(cell) if cell.ours else "-",
        rank(table, row, name, budget),
        id_,
    ]
    key = (column.label, str(model), str(frames), None if budget is None else -budget.percent)
    return Entry(key, -printed if column.lower else printed, shown)


def budget_of(table: Table, row: Row) -> Budget | None:
    """Visual tokens that a row keeps, in percent as the paper counts; where it prints none,
    operations. None where neither is printed.
    """
    if table.baseline and row.matches(table.baseline):
        return Budget(100.0)
    for name in _SHARES:
        value = row.settings.get(name)
        if value is None and name in table.columns:
            value = table.printed(row, name)
        if isinstance(value, (int, float)):
            return Budget(float(value))
    full, tokens = table.baseline_of(row), row.settings.get("tokens")
    if full is not None and tokens and isinstance(full.settings.get("tokens"), int):
        return Budget(round(100 * tokens / full.settings["tokens"], 1))
    if "flops_pct" in table.columns and table.printed(row, "flops_pct") is not None:
        return Budget(float(table.printed(row, "flops_pct")), " of FLOPs")
    if "K" in row.settings and "P" in row.settings:
        left = (1 - 0.75 * row.settings["K"]) * (1 - row.settings["P"])
        return Budget(round(100 * left, 2))
    return None


def rank(table: Table, row: Row, name: str, budget: Budget | None) -> str:
    """`1 of 4`: among the methods of this column, model and frames that have no more tokens."""
    if budget is None:
        return "-"
    mine = table.printed(row, name)
    against = [
        table.printed(other, name) for other in table.rows if _comparable(table, row, other, budget)
    ]
    known = [value for value in against if isinstance(value, (int, float))]
    lower = table.columns[name].lower
    ahead = sum(value < mine if lower else value > mine for value in known)
    return f"{ahead + 1} of {len(known)}"


def _comparable(table: Table, row: Row, other: Row, budget: Budget) -> bool:
    same = all(table.setting(row, key) == table.setting(other, key) for key in ("model", "frames"))
    theirs = budget_of(table, other)
    return same and theirs is not None and theirs.percent <= budget.percent + 1e-9


def listed(made: Sequence[Cell]) -> dict[Key, Cell]:
    """Cells by where they stand."""
    return {(cell.row.label, cell.name): cell for cell in made}
