"""The table of a study or a sweep: a row per cell by names of columns, as files have it.

What the columns mean is said in `results.columns`; categories have one each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenprune.results.column import Column, estimate_fields, paired_fields
from tokenprune.results.columns import present
from tokenprune.results.table import csv, parquet
from tokenprune.study.config import SELF, CellConfig
from tokenprune.study.plan import Cell
from tokenprune.study.results import COMPARED, MEASURED, Results, Row

OK, UNREACHABLE, FAILED = "ok", "unreachable", "failed"
_SETTING = ("model", "task", "frames", "seed")

Line = dict[str, Any]  # a row, by column; None: not known, or does not apply


def lines_of(results: Results, cells: Sequence[Cell], config: CellConfig) -> list[Line]:
    """One line per cell, in the order of `cells`, also where it could not be reached."""
    rows = {row.cell.slug: row for row in results.rows}
    setting = {name: getattr(config, name) for name in _SETTING}
    missing = {cell.slug: _missing(cell, results) for cell in results.missing}
    found = []
    for cell in cells:
        row = rows.get(cell.slug)
        numbers = missing[cell.slug] if row is None else _numbers(row, results)
        found.append({**_empty(results), **_names(cell), **numbers, **setting})
    return found


def category(name: str) -> Column:
    """The scores of one category."""
    return Column(f"category_{name}", name, f"mean score of {name}", unit="%")


def columns_of(lines: Sequence[Line], results: Results) -> tuple[Column, ...]:
    """What files have: the columns of `lines` in the order of all results, then the categories."""
    return (*present(lines), *map(category, results.categories))


def as_csv(lines: Sequence[Line], results: Results) -> str:
    return csv(lines, columns_of(lines, results))


def as_parquet(lines: Sequence[Line], results: Results) -> bytes:
    return parquet(lines, columns_of(lines, results))


def line_of(row: Row, results: Results) -> Line:
    """Of a cell that has numbers."""
    return {**_empty(results), **_names(row.cell), **_numbers(row, results)}


def _empty(results: Results) -> Line:
    """Every field of a cell's numbers, which may not be known."""
    found: Line = dict.fromkeys(("reason", "share_of_vanilla", "off_budget"))
    found |= estimate_fields("score", None)
    for name in COMPARED:
        found |= paired_fields(name, None)
    for column in (*MEASURED, *map(category, results.categories)):
        found[column.name] = None
    return found


def _names(cell: Cell) -> Line:
    return {
        "method": cell.method,
        "strategy": cell.spec,
        "options": json.dumps(dict(cell.options), sort_keys=True),
        "allocator": cell.allocator,
        "guide": cell.guide,
        "keep_requested": cell.requested,
        "tokens_per_frame": cell.tokens,
        "budget": cell.budget,
        "assistant": None if cell.guided_by == SELF else cell.guided_by,
    }


def _numbers(row: Row, results: Results) -> Line:
    """Without intervals where the samples cannot tell."""
    found: Line = {"status": OK, "samples": row.answered + row.errors, "errors": row.errors}
    found |= estimate_fields("score", row.score)
    for name in COMPARED:
        found |= paired_fields(name, getattr(row, name))
    full = results.vanilla.score.value
    found["share_of_vanilla"] = row.score.value / full if full else None
    found |= row.measured
    found["off_budget"] = int(row.off_budget)
    found |= {category(name).name: score for name, score in row.categories.items()}
    return found


def _missing(cell: Cell, results: Results) -> Line:
    reached = cell.pipeline is not None
    asked = results.samples if reached else 0
    status = FAILED if reached else UNREACHABLE
    return {"status": status, "reason": cell.reason, "samples": asked, "errors": asked}
