"""A run's tables besides the one of its systems: rows and columns, for any renderer."""

from __future__ import annotations

from typing import Any

from tokenprune.results.column import Column, Row
from tokenprune.results.summary import Summary
from tokenprune.results.wording import percent, score

Table = tuple[list[Row], list[Column]]


def by_category(summary: Summary, intervals: bool = False) -> Table:
    """What suffers: a row per category, a column per system; without intervals it stays narrow."""
    columns = [
        Column("category", "score by category", "", str),
        *(Column(role, one.label, "") for role, one in summary.systems.items()),
        Column("samples", "samples", "", int),
    ]
    rows = []
    for name, category in summary.categories.items():
        scores = {
            role: score(found) if intervals else percent(found.value)
            for role, found in category.scores.items()
        }
        rows.append({"category": name, "samples": category.samples, **scores})
    return rows, columns


def own_figures(summary: Summary) -> Table:
    """A benchmark's own figures, as it reports them."""
    roles = [role for role in summary.systems if role in summary.metrics]
    columns = [
        Column("name", "the benchmark's own figures", "", str),
        *(Column(role, summary.systems[role].label, "") for role in roles),
    ]
    names = dict.fromkeys(name for role in roles for name in summary.metrics[role])
    rows = []
    for name in names:
        figures = {role: _figure(summary.metrics[role].get(name)) for role in roles}
        rows.append({"name": name, **figures})
    return rows, columns


def _figure(value: Any) -> str:
    """Whatever a benchmark reports."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
