"""The tables of a study's page, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenprune.results.column import COMPARISON, Column, paired_fields
from tokenprune.results.columns import named
from tokenprune.results.table import markdown
from tokenprune.results.wording import percent
from tokenprune.study.findings import rank
from tokenprune.study.plan import Cell
from tokenprune.study.results import Results, Row
from tokenprune.study.table import category, line_of

COLUMNS = named(
    "method",
    "layer_average_ratio",
    "score",
    "share_of_vanilla",
    "to_vanilla",
    "to_random",
    "decode_ratio",
    "flops_ratio",
)
(_METHOD,) = named("method")
_IMPORTANCE = (
    Column("guide", "guide", "the model that weighs frames", str),
    Column("samples", "samples", "needles", int),
    Column("rank", "mean reciprocal rank", "of the best frame with evidence"),
    Column("chance", "chance", "the same for frames in random order"),
    Column("first", "rank 1 in %", "samples whose evidence has the largest weight"),
)


def retention(results: Results, tokens: int) -> str:
    """All methods at one budget, and those that cannot reach it."""
    lines = [_line(results, row) for row in results.at(tokens)]
    lines += [_cannot(cell) for cell in results.missing if cell.tokens == tokens]
    return markdown(lines, COLUMNS)


def full(results: Results) -> str:
    """The full model alone."""
    return markdown([_line(results, results.vanilla)], COLUMNS)


def allocation(results: Results) -> str:
    """What the allocator adds to each method, budgets in columns."""
    columns = [_METHOD] + [_at(results, tokens) for tokens in results.budgets]
    lines: dict[str, dict[str, Any]] = {}
    for row in results.rows:
        if row.to_host is not None:
            line = lines.setdefault(row.cell.label, {"method": f"`{row.cell.label}`"})
            line |= paired_fields(_at(results, row.cell.tokens).name, row.to_host)
    return markdown(list(lines.values()), columns)


def _at(results: Results, tokens: int) -> Column:
    """The column of one budget."""
    heading = f"at {tokens / results.cells:.1%}"
    return Column(f"at_{tokens}", heading, "difference", unit="points", parts=COMPARISON)


def importance(results: Results) -> str:
    """How each guide ranks needles."""
    lines = [
        {
            "guide": f"`{found.guide}`",
            "samples": found.samples,
            "rank": rank(found.reciprocal_rank),
            "chance": f"{found.chance:.3f}",
            "first": percent(found.first),
        }
        for found in results.importance
    ]
    return markdown(lines, _IMPORTANCE)


def categories(results: Results, tokens: int) -> str:
    """Scores by category at one budget, the full model first."""
    columns = [_METHOD, *map(category, results.categories)]
    rows: Sequence[Row] = [results.vanilla, *results.at(tokens)]
    return markdown([_line(results, row) for row in rows], columns)


def _line(results: Results, row: Row) -> dict[str, Any]:
    line = line_of(row, results)
    line["method"] = f"`{row.cell.label}`"
    if row.off_budget:
        line["layer_average_ratio"] = f"{percent(row.retention)} (off budget)"
    return line


def _cannot(cell: Cell) -> dict[str, Any]:
    return {"method": f"`{cell.label}`", "layer_average_ratio": f"cannot: {cell.reason}"}
