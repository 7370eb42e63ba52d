"""Commands that fill a cell, ready to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from tokenprune.reproduce.cell import NOT_RUN, Cell
from tokenprune.reproduce.schema import Table


def command(id_: str, *words: str) -> str:
    """`tokenprune reproduce ID WORDS`, quoted for a shell."""
    return shlex.join(["tokenprune", "reproduce", id_, *words])


def filling(id_: str, table: Table, cell: Cell) -> str:
    """What would run this cell alone."""
    return command(id_, *_words(table, [cell.row.label], [cell.name], cell.column.from_))


def missing(id_: str, table: Table, made: Iterable[Cell]) -> list[str]:
    """One command per row for all its cells that were not run, in the table's order."""
    found: dict[str, list[Cell]] = {}
    for cell in made:
        measured = cell.column.task or cell.column.measure
        if cell.status == NOT_RUN and cell.row.run is not None and measured and not cell.why:
            found.setdefault(cell.row.label, []).append(cell)
    lines = []
    for label, cells in found.items():
        for kinds in (("score",), ("judged",), ("speed",)):
            names = [cell.name for cell in cells if cell.column.from_ in kinds]
            if names:
                lines.append(command(id_, *_words(table, [label], names, kinds[0])))
    return lines


def _words(table: Table, rows: Sequence[str], columns: Sequence[str], kind: str) -> list[str]:
    every = [name for name, column in table.columns.items() if column.from_ == kind]
    words = [f"rows={','.join(rows)}"]
    if list(columns) != every or len(every) != len(table.columns):
        words.append(f"columns={','.join(columns)}")
    if kind == "speed":
        return [*words, "device=cuda"]
    return [*words, *(["judge=gpt-4o-mini"] if kind == "judged" else []), "download=true"]
