"""What a measured figure is called beside the printed one, and its effect beside the full model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.reproduce.cell import (
    BLOCKED,
    DEVIATES,
    NOT_RUN,
    PARTIAL,
    REPRODUCED,
    SHOWN,
    Cell,
    Found,
    Key,
)
from tokenprune.reproduce.noise import Noise, tolerance
from tokenprune.reproduce.protocol import OPEN, read_protocol
from tokenprune.reproduce.rounding import seconds
from tokenprune.reproduce.schema import Column, Row, Table

SPEED = 0.10  # relative, on the same hardware: clocks and temperatures differ by a few percent


def judged(table: Table, row: Row, name: str, found: Mapping[Key, Found], noise: Noise) -> Cell:
    """A cell of a score or of a speed, with a printed figure.

    `partial` is never called reproduced, and speed on other hardware has no verdict.
    """
    column, printed = table.columns[name], table.printed(row, name)
    mine = found.get((row.label, name))
    if mine is None:
        if row.blocked is not None:
            return Cell(row, name, column, printed, BLOCKED, why=row.blocked.why)
        return Cell(row, name, column, printed, NOT_RUN, why=_sent(table, column))
    status, why = _status(table, row, column, seconds(printed), mine, noise)
    return Cell(row, name, column, printed, status, (mine.value,), why, mine)


def _sent(table: Table, column: Column) -> str:
    """Why no run here gives a column's figure; empty where one does."""
    if table.protocol is None or not column.task:
        return ""
    kind = read_protocol(table.protocol).task(column.task).kind
    return "its answers are sent to a public server" if kind == OPEN else ""


def _status(
    table: Table, row: Row, column: Column, printed: Any, mine: Found, noise: Noise
) -> tuple[str, str]:
    if column.from_ == "speed":
        if mine.machine != table.hardware or not table.hardware:
            theirs = table.hardware or "hardware that is not stated"
            return SHOWN, f"ours on {mine.machine}, printed on {theirs}"
        near = abs(mine.value - printed) <= SPEED * abs(printed)
        return (REPRODUCED if near else DEVIATES), ""
    if (short := _short(column, mine)) is not None:
        return PARTIAL, short
    share = noise.share(row.matches(table.baseline))
    near = abs(mine.value - printed) <= tolerance(column, printed, share, mine.n)
    return (REPRODUCED if near else DEVIATES), ""


def _short(column: Column, mine: Found) -> str | None:
    """Why a score is not of all that the protocol asks."""
    if mine.errors:
        return f"{mine.errors} of {mine.n + mine.errors} samples failed"
    if mine.n != mine.of:
        return f"{mine.n:,} of {mine.of:,} samples"
    if column.from_ == "judged" and mine.judge != mine.settings.get("printed_judge"):
        return f"judged by {mine.judge}, printed by {mine.settings.get('printed_judge')}"
    return None


def printed_effect(table: Table, cell: Cell) -> float | None:
    """The printed figure minus the full model's; None where one is not printed."""
    full = table.baseline_of(cell.row)
    if full is None or cell.printed is None or full is cell.row:
        return None
    other = table.printed(full, cell.name)
    return None if other is None else seconds(cell.printed) - seconds(other)


def grey(table: Table, made: Sequence[Cell]) -> set[Key]:
    """Cells whose level says nothing, since our full model deviates from the printed one: their
    verdict is about the effect.
    """
    off = {
        (cell.row.label, cell.name)
        for cell in made
        if cell.status == DEVIATES and cell.row.matches(table.baseline)
    }
    found = set()
    for cell in made:
        full = table.baseline_of(cell.row)
        if cell.found is not None and full is not None and (full.label, cell.name) in off:
            found.add((cell.row.label, cell.name))
    return found
