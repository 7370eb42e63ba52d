"""The tables of a study, as Markdown and as tidy CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from tokenprune.results.statistics import Estimate, Paired
from tokenprune.results.wording import difference, percent, score
from tokenprune.study.findings import rank
from tokenprune.study.plan import Cell
from tokenprune.study.results import COMPARED, CONTROL, Results, Row


def markdown(
    heading: Sequence[str], lines: Iterator[Sequence[str]] | Sequence[Sequence[str]]
) -> str:
    """A table whose first column is text and whose others are numbers."""
    marks = ["--", *["--:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, marks, *lines))


_HEADING = (
    "method",
    "tokens %",
    "score",
    "of vanilla %",
    "- vanilla",
    f"- {CONTROL}",
    "decode %",
    "FLOPs %",
)


def retention(results: Results, tokens: int) -> str:
    """All methods at one budget, and those that cannot reach it."""
    lines = [_line(results, row) for row in results.at(tokens)]
    for cell in results.missing:
        if cell.tokens == tokens:
            lines.append([f"`{cell.label}`", f"cannot: {cell.reason}", *[""] * (len(_HEADING) - 2)])
    return markdown(_HEADING, lines)


def full(results: Results) -> str:
    """The full model alone."""
    return markdown(_HEADING, [_line(results, results.vanilla)])


def _line(results: Results, row: Row) -> list[str]:
    return [
        f"`{row.cell.label}`",
        percent(row.measured) + (" (off budget)" if row.off_budget else ""),
        score(row.macro),
        percent(share(results, row)),
        difference(row.to_vanilla),
        difference(row.to_control),
        percent(row.decode),
        percent(row.flops),
    ]


def share(results: Results, row: Row) -> float | None:
    """A score as a fraction of the full model's."""
    return row.macro.value / results.vanilla.macro.value if results.vanilla.macro.value else None


def allocation(results: Results) -> str:
    """What the allocator adds to each method, budgets in columns."""
    budgets = results.budgets
    lines = []
    for label in dict.fromkeys(row.cell.label for row in results.rows if row.to_host is not None):
        found = {row.cell.tokens: row.to_host for row in results.rows if row.cell.label == label}
        lines.append([f"`{label}`", *(difference(found.get(tokens)) for tokens in budgets)])
    cells = results.vanilla.cell.extent.cells
    return markdown(["method", *(f"at {tokens / cells:.1%}" for tokens in budgets)], lines)


def importance(results: Results) -> str:
    lines = [
        [
            f"`{found.guide}`",
            str(found.samples),
            rank(found.reciprocal_rank),
            f"{found.chance:.3f}",
            percent(found.first),
        ]
        for found in results.importance
    ]
    return markdown(["guide", "samples", "mean reciprocal rank", "chance", "rank 1 in %"], lines)


def families(results: Results, tokens: int) -> str:
    """Scores by family at one budget, the full model first."""
    rows = [results.vanilla, *results.at(tokens)]
    lines = [
        [f"`{row.cell.label}`", *(percent(row.families.get(name)) for name in results.families)]
        for row in rows
    ]
    return markdown(["method", *results.families], lines)


def tidy(results: Results) -> str:
    """One line per cell, fractions instead of per cents, also for cells that could not be reached."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    compared = ("macro", "to_vanilla", "to_random", "to_host")
    out.writerow(
        [
            *(
                "method",
                "allocator",
                "guide",
                "tokens_per_frame",
                "budget",
                "measured",
                "off_budget",
            ),
            *(f"{name}{end}" for name in compared for end in ("", "_low", "_high")),
            *("share_of_vanilla", "decode", "flops"),
            *results.families,
            "cannot",
            *(f"{name}{end}" for name in compared[1:] for end in ("_p", "_p_holm")),
        ]
    )
    for row in results.rows:
        paired = [getattr(row, name) for name in COMPARED]
        numbers = [number for found in (row.macro, *paired) for number in _three(found)]
        scores = (row.families.get(name) for name in results.families)
        plain = [*numbers, share(results, row), row.decode, row.flops, *scores]
        tested = [
            number
            for found in paired
            for number in ((found.p, found.p_holm) if found else (None, None))
        ]
        kept = [_csv(row.measured), int(row.off_budget)]
        out.writerow([*_names(row.cell), *kept, *map(_csv, plain), "", *map(_csv, tested)])
    blank = [""] * (2 + 3 * len(compared) + 3 + len(results.families))
    tail = [""] * (2 * len(COMPARED))
    for cell in results.missing:
        out.writerow([*_names(cell), *blank, cell.reason, *tail])
    return text.getvalue()


def _names(cell: Cell) -> list[object]:
    return [cell.method, cell.allocator, cell.guide, cell.tokens, _csv(cell.ratio)]


def _three(found: Estimate | Paired | None) -> tuple[float | None, ...]:
    """Value, low and high."""
    return (None,) * 3 if found is None else (found.value, *(found.interval or (None, None)))


def _csv(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
