"""An analogue as a page shows it: a table of its own, headed by what it is not."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.reproduce.grids import words
from tokenprune.reproduce.grids.grid import Grid
from tokenprune.reproduce.pages.views import AnalogueView, Image, Lines


def analogue_view(grid: Grid, images: Sequence[Image]) -> AnalogueView:
    rows = [
        [cell.strip("*") if place == 0 else cell for place, cell in enumerate(row)]
        for row in words.rows(grid)
    ]
    return AnalogueView(
        head=words.head(grid),
        translated=words.translated(grid),
        table=Lines(list(words.COLUMNS), rows),
        findings=list(words.findings(grid)),
        setting=words.setting(grid),
        place=words.place(grid),
        images=list(images),
        claims=list(grid.verdicts.items()),
    )
