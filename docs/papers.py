"""Writes the pages of papers: `python docs/papers.py` (or `make papers`).

From the files in `tokenprune/papers` and the figures beside them (`*.ours.json`,
`*.analogue.json`), into `docs/results/papers`, and the index in `experiments/README.md`. `draw` as
an argument draws the pictures anew, too: those of figures alone, and of DyToK's and DyCoke's
figures about a video on the embedded model.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenprune.reproduce import figure, ours
from tokenprune.reproduce.cells import cells
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import papers, tables
from tokenprune.reproduce.grids import grid
from tokenprune.reproduce.pages import pictures, write_index, write_pages

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "results" / "papers"
INDEX = ROOT / "experiments" / "README.md"


def draw() -> None:
    """All pictures of the pages; several figures of one kind are about one embedded sample, and
    the first of them has the picture.
    """
    config, drawn = ReproduceConfig(device="cpu", dtype="float32"), []
    for id_, table in tables():
        made = cells(table, ours.read(ours.committed(id_)))
        pictures.draw(id_, table, made, grid.read(grid.committed(id_)), PAGES)
        if table.figure is not None and table.figure not in drawn:
            figure.draw(id_, table, config, PAGES)
            drawn.append(table.figure)


if __name__ == "__main__":
    if "draw" in sys.argv[1:]:
        draw()
    write_pages(papers(), PAGES)
    write_index(INDEX)
