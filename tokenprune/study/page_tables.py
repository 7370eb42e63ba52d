"""The tables of a study's page, as Markdown, and what its categories say in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenprune.results.column import Column
from tokenprune.results.columns import named
from tokenprune.results.table import markdown
from tokenprune.results.wording import points
from tokenprune.study import phrases
from tokenprune.study.phrases import name
from tokenprune.study.results import Results, Row
from tokenprune.study.table import line_of

_ALONE = named("method", "score", "to_random")
_WIDEST = 3  # categories that are named


def reading(results: Results) -> Iterator[str]:
    """What the columns of guides mean."""
    guides = _guides(results)
    if guides:
        names = phrases.listed(f"*{guide}*" for guide in guides)
        by = " (self: by the model itself)" if "self" in guides else ""
        yield f"{names}: points that `+{_allocator(results)}` adds, guided so{by}."


def budget(results: Results, tokens: int) -> str:
    """A line for each method: alone, and what the allocator adds under each guide."""
    rows = results.at(tokens)
    columns = [*_ALONE, *(Column(guide, guide, "what it adds") for guide in _guides(results))]
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(row.cell.method, {"method": f"`{row.cell.method}`"})
        if row.cell.guide is None:
            line |= {**line_of(row, results), "method": f"`{row.cell.method}`"}
        elif row.to_host is not None:
            line[row.cell.guide] = _short(row)
    return markdown(list(lines.values()), columns)


def _short(row: Row) -> str:
    """`+7.9 *`: what the allocator adds, without its interval."""
    found = row.to_host
    assert found is not None
    return f"{points(found.value)} *" if found.sign else points(found.value)


def _guides(results: Results) -> list[str]:
    """Models that guide the allocator somewhere, in the study's order."""
    guides = [row.cell.guide for row in results.rows if row.to_host is not None]
    return [guide for guide in dict.fromkeys(guides) if guide is not None]


def _allocator(results: Results) -> str | None:
    return next((row.cell.allocator for row in results.rows if row.to_host is not None), None)


def widest(results: Results, tokens: int) -> list[str]:
    """The categories in which methods lie furthest apart at one budget, by how much and who."""
    found: list[tuple[float, str]] = []
    for category, full in results.vanilla.categories.items():
        lost = [
            (row.categories[category] - full, name(row.cell))
            for row in results.at(tokens)
            if category in row.categories
        ]
        if len(lost) > 1:
            (least, worst), (most, best) = min(lost), max(lost)
            ends = f"{worst} {points(least)}, {best} {points(most)}"
            found.append((most - least, f"`{category}` ({ends})"))
    ranked = sorted(found, key=lambda one: -one[0])
    return [text for _, text in ranked[:_WIDEST]]
