"""Whether methods stand in the same order, and which printed differences mean anything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.reproduce.cell import Cell
from tokenprune.reproduce.noise import Noise, spread
from tokenprune.reproduce.schema import Table


@dataclass(frozen=True)
class Order:
    """The order of a column's methods.

    Args:
        column: its name
        tau: Kendall's, ours against printed, over methods of the same model and frames; None with
            fewer than two figures of ours
        methods: how many of ours
        pairs: printed differences between methods of the same model and frames
        clear: those that are larger than the column's noise
    """

    column: str
    tau: float | None
    methods: int
    pairs: int
    clear: int


def orders(table: Table, made: Sequence[Cell], n: dict[str, int], noise: Noise) -> list[Order]:
    """Of every score column. `n`: samples behind each printed column, where they are known."""
    found = []
    for name, column in table.columns.items():
        if column.from_ not in ("score", "judged"):
            continue
        mine = [cell for cell in made if cell.name == name and cell.printed is not None]
        pairs = [
            (one, other)
            for one, other in itertools.combinations(mine, 2)
            if _together(table, one, other)
        ]
        least = spread(column, noise.compressed, n[name]) if n.get(name) else float("inf")
        clear = sum(abs(one.printed - other.printed) > least for one, other in pairs)
        ours = [cell for cell in mine if cell.ours]
        found.append(Order(name, _tau(pairs), len(ours), len(pairs), clear))
    return found


def _together(table: Table, one: Cell, other: Cell) -> bool:
    return all(
        table.setting(one.row, name) == table.setting(other.row, name)
        for name in ("model", "frames")
    )


def _tau(pairs: Sequence[tuple[Cell, Cell]]) -> float | None:
    """Over pairs of methods that both have a figure of ours: those that stand in the same order
    minus those that do not, over all (tau-a, so a tie counts for neither).
    """
    signs = [
        _sign(one.printed - other.printed) * _sign(one.ours[0] - other.ours[0])
        for one, other in pairs
        if one.ours and other.ours
    ]
    return sum(signs) / len(signs) if signs else None


def _sign(value: float | int) -> int:
    return (value > 0) - (value < 0)
