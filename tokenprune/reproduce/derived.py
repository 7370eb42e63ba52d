"""Derived columns: named functions of other cells of the row and of the full model's row.

On a paper's own cells they check its arithmetic. Printed cells are rounded, so what can follow
from them is an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

Values = Sequence[float]
Formula = Callable[[Values, Values], float]  # of the row's cells, and the full model's


def mean(row: Values, full: Values) -> float:
    """The plain mean of the row's cells."""
    return sum(row) / len(row)


def percent_of_vanilla(row: Values, full: Values) -> float:
    """The mean of the row's cells in percent of the full model's."""
    return 100 * mean(row, full) / mean(full, full)


def mean_of_percents(row: Values, full: Values) -> float:
    """The mean of the percentages that the row's cells are of the full model's."""
    return 100 * sum(one / other for one, other in zip(row, full, strict=True)) / len(row)


def speedup(row: Values, full: Values) -> float:
    """How many times less the row takes than the full model."""
    return mean(full, full) / mean(row, full)


def per_question(row: Values, full: Values) -> float:
    """Seconds for each of MVBench's 4,000 questions."""
    return row[0] / 4000


NEEDS_FULL = (percent_of_vanilla, mean_of_percents, speedup)
FORMULAS: dict[str, Formula] = {
    formula.__name__: formula
    for formula in (mean, percent_of_vanilla, mean_of_percents, speedup, per_question)
}


class Input(NamedTuple):
    """A printed cell: what stands there, and half a unit of its last digit."""

    value: float
    half: float = 0.0


class Derived(NamedTuple):
    """What follows from printed cells: from the figures as they stand, and the limits that their
    rounding leaves.
    """

    value: float
    low: float
    high: float


def derive(formula: Formula, row: Sequence[Input], full: Sequence[Input]) -> Derived:
    """Every formula here rises or falls with each of its cells, so the limits lie in corners."""
    own, other = [cell.value for cell in row], [cell.value for cell in full]
    value = formula(own, other)
    up_row = [_rises(formula, own, other, place, row[place].half) for place in range(len(row))]
    up_full = [
        _rises(formula, other, own, place, full[place].half, swapped=True)
        for place in range(len(full))
    ]
    low, high = (
        formula(_corner(row, up_row, sign), _corner(full, up_full, sign)) for sign in (-1, 1)
    )
    return Derived(value, low, high)


def _rises(
    formula: Formula,
    moved: Values,
    fixed: Values,
    place: int,
    by: float,
    swapped: bool = False,
) -> float:
    """1 if the result rises with that cell of `moved`, else -1."""
    changed = [*moved]
    changed[place] += by
    before = formula(fixed, moved) if swapped else formula(moved, fixed)
    after = formula(fixed, changed) if swapped else formula(changed, fixed)
    return 1.0 if after >= before else -1.0


def _corner(cells: Sequence[Input], up: Sequence[float], sign: int) -> list[float]:
    return [cell.value + sign * one * cell.half for cell, one in zip(cells, up, strict=True)]
