"""How cells are written, on a screen and on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.reproduce.cell import DEVIATES, EXACT, SIGNS, STATUSES, Cell
from tokenprune.reproduce.rounding import clock, seconds
from tokenprune.reproduce.schema import Column, Table

NOTHING = "-"
CLOCK = "h:mm:ss"  # the unit of a column that is printed so
# what each word means, in a line
MEANINGS = {
    "exact": "computed without a run, equal at the printed digit",
    "slip": "computed without a run, differs, the reason is on file",
    "wrong": "computed without a run, differs, no reason on file",
    "reproduced": "ours is within the tolerance of the printed figure",
    "deviates": "ours is outside of it",
    "partial": "fewer samples than the protocol has, failed ones, or another judge",
    "shown": "nothing to compare: text, other hardware, or cells that are not printed",
    "not run": "weights, data, a judge, a device or time were not here",
    "blocked": "nobody can run it; the reason is on file",
    "not printed": "the paper has no figure there",
}
assert tuple(MEANINGS) == STATUSES


def figure(value: Any, column: Column) -> str:
    """A printed figure as it stands in the file."""
    return NOTHING if value is None else str(value)


def mine(value: float, column: Column) -> str:
    """A figure of ours, with the column's digits."""
    return clock(value) if column.unit == CLOCK else f"{value:.{column.digits}f}"


def ours(cell: Cell) -> str:
    """Our figure and its sign; the sign alone where there is none.

    Of a derived cell that our own cells give, that.
    """
    sign = SIGNS[cell.status]
    if cell.mine is not None:
        return f"{mine(cell.mine, cell.column)} {sign}"
    if not cell.ours or cell.status == EXACT:
        return sign
    return f"{mine(cell.ours[0], cell.column)} {sign}".strip()


def machines(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each column of which ours was measured on other hardware."""
    found = {f"{title(cell)}: {cell.why}" for cell in cells if cell.found is not None and cell.why}
    return sorted(found)


def beside_full(cell: Cell) -> str:
    """Of a speed: how many times less, or more, than the full model, where that is known."""
    found = cell.found
    if cell.column.from_ != "speed" or found is None or not found.effect:
        return ""
    less = 1 / found.effect
    return f"{less:.2f}x less" if less >= 1 else f"{found.effect:.2f}x more"


def interval(low: float | None, high: float | None, column: Column) -> str:
    if low is None or high is None:
        return ""
    return f"[{mine(low, column)}, {mine(high, column)}]"


def difference(cell: Cell) -> str:
    """Ours minus printed, with a sign."""
    if not cell.ours or not isinstance(cell.printed, int | float):
        return ""
    return f"{cell.ours[0] - cell.printed:+.{cell.column.digits}f}"


def summed(counts: Mapping[str, int]) -> str:
    """`34 exact, 3 slip, 117 not run`."""
    return ", ".join(f"{number:,} {status}" for status, number in counts.items())


def slips(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each cell whose difference has a reason on file."""
    return [
        f"{cell.row.label}, {title(cell)}: {cell.why}"
        for cell in cells
        if cell.why and cell.status in ("slip", DEVIATES)
    ]


def title(cell: Cell) -> str:
    return cell.column.label or cell.name


def ratios(table: Table, made: Sequence[Cell]) -> list[str]:
    """Of every speed of ours, how many times less than the full model, ours and printed."""
    found = []
    for cell in made:
        full = table.baseline_of(cell.row)
        if (mine := beside_full(cell)) and full is not None:
            theirs = seconds(table.printed(full, cell.name)) / seconds(cell.printed)
            found.append(f"{cell.row.label}, {title(cell)}: {mine}, printed {theirs:.2f}x.")
    return found
