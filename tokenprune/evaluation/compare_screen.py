"""A comparison of two runs in the terminal and as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tokenprune.evaluation.compare import Comparison
from tokenprune.results import table
from tokenprune.results.column import ESTIMATE, Column, estimate_fields
from tokenprune.results.columns import named
from tokenprune.results.statistics import Estimate
from tokenprune.results.wording import points, probability, verdict, within

_SIDES = (
    Column("a", "A", "of the first run", unit="%"),
    Column("b", "B", "of the second run", unit="%"),
)
_SCORES = (
    Column("row", "score by category", "a category, or all of them", str),
    Column("samples", "n", "samples that both runs answered", int),
    *_SIDES,
    Column("change", "B - A", "in points, paired by sample"),
    Column("interval", "[95 %]", "of the difference"),
    Column("mcnemar", "McNemar", "p of the exact test, where it applies"),
)
_RATIOS = (Column("row", "of the full model", "a column of results", str), *_SIDES)
_FILE = (
    Column("row", "", "a category, all of them, or a column of results", str),
    Column("samples", "", "samples that both runs answered", int),
    *_SIDES,
    Column("difference", "", "of the scores, B - A, paired by sample", parts=ESTIMATE),
    Column("difference_p", "", "p of the bootstrap, two-sided"),
    Column("difference_mcnemar_p", "", "p of McNemar's exact test, where it applies"),
)


def screen(found: Comparison) -> RenderableType:
    """What `tokenprune compare` prints."""
    runs = zip("AB", found.labels, found.folders, strict=True)
    told = "No sample has a score: the right answers are not known."
    if found.rows:
        told = f"B against A: {verdict(found.rows[-1].change, 'A')}."
    parts: list[RenderableType] = [Text(told, style="bold", overflow="fold")]
    parts += [Text(f"{name}: {label} ({where})", overflow="fold") for name, label, where in runs]
    for warning in found.warnings:
        parts.append(Text(f"warning: {warning}", style="yellow", overflow="fold"))
    if found.rows:
        rows = _scores(found)
        parts.append(table.terminal(rows, _SCORES, sections=(len(rows) - 2,)))
    return Group(*parts, table.terminal(_ratios(found), _RATIOS))


def write(found: Comparison, file: Path) -> None:
    """The table as CSV or JSON, fractions and not per cents. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = table.csv(_lines(found), _FILE) if file.suffix == ".csv" else _json(found)
    file.write_text(content, encoding="utf-8")


def _scores(found: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "row": row.category,
            "samples": row.samples,
            "a": row.first,
            "b": row.second,
            "change": points(row.change.value),
            "interval": within(row.change.interval) or None,
            "mcnemar": _p(row.change.mcnemar_p),
        }
        for row in found.rows
    ]


def _p(value: float | None) -> str | None:
    return None if value is None else probability(value)


def _ratios(found: Comparison) -> list[dict[str, Any]]:
    return [
        {"row": column.heading.replace("\n", " "), **dict(zip("ab", sides, strict=True))}
        for column, sides in zip(named(*found.ratios), found.ratios.values(), strict=True)
    ]


def _lines(found: Comparison) -> list[dict[str, Any]]:
    """As a file has it: scores first, then tokens and FLOPs."""
    lines: list[dict[str, Any]] = []
    for row in found.rows:
        change = row.change
        lines.append(
            {
                "row": row.category,
                "samples": row.samples,
                "a": row.first,
                "b": row.second,
                **estimate_fields("difference", Estimate(change.value, change.interval)),
                "difference_p": change.p,
                "difference_mcnemar_p": change.mcnemar_p,
            }
        )
    for name, (first, second) in found.ratios.items():
        lines.append({"row": name, "samples": found.samples, "a": first, "b": second})
    return lines


def _json(found: Comparison) -> str:
    runs = zip(("a", "b"), found.folders, found.labels, strict=True)
    named_runs = {name: {"folder": str(folder), "label": label} for name, folder, label in runs}
    whole = {**named_runs, "warnings": found.warnings, "table": _lines(found)}
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"
