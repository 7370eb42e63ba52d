"""Whether anything is wrong that needs no run to be seen: `check=true`."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.reproduce.cell import WRONG
from tokenprune.reproduce.cells import cells
from tokenprune.reproduce.claims import on_printed
from tokenprune.reproduce.files import tables
from tokenprune.reproduce.noise import Noise
from tokenprune.reproduce.schema import Table


def faults(what: str) -> list[str]:
    """One sentence for every cell that is wrong, every slip that is none, and every claim whose
    verdict on the printed figures is not the one on file.
    """
    return [fault for id_, table in tables(what) for fault in _of(id_, table)]


def _of(id_: str, table: Table) -> Sequence[str]:
    made = cells(table)
    found = []
    for cell in made:
        where = f"{id_}, {cell.row.label}, {cell.name}"
        on_file = table.slips.get(cell.name, {}).get(cell.row.label)
        if cell.status == WRONG:
            ours = ", ".join(f"{value:.6g}" for value in cell.ours)
            found.append(f"{where}: printed {cell.printed}, computed {ours}")
        elif on_file and not cell.why:
            found.append(f"{where}: is no slip, though its file says so: {on_file}")
    found += [f"{id_}: slips: names no cell {one}" for one in _nowhere(table)]
    for claim in table.claims:
        word = on_printed(table, claim, None, Noise()).word
        if word != claim.verdict:
            found.append(f"{id_}: {claim.says!r}: {word} on the printed figures")
    return found


def _nowhere(table: Table) -> list[str]:
    """Slips of cells that are not there."""
    labels = {row.label for row in table.rows}
    return [
        f"{name}, {label}"
        for name, slips in table.slips.items()
        for label in slips
        if name not in table.columns or label not in labels
    ]
