"""An analogue on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from tokenprune.reproduce.grids import words
from tokenprune.reproduce.grids.grid import METHOD, Grid


def screen(title: str, found: Grid) -> RenderableType:
    """For a terminal; controls are fainter."""
    drawn = Drawn(box=None, pad_edge=False)
    for place, name in enumerate(words.COLUMNS):
        drawn.add_column(name, justify="right" if place else "left", overflow="fold")
    roles = {line.label: line.role for line in found.lines}
    for row in words.rows(found):
        label = row[0].strip("*")
        drawn.add_row(label, *row[1:], style="" if roles.get(label) == METHOD else "dim")
    return Group(
        Text(title, style="bold"),
        Text(words.head(found)),
        Text(words.translated(found), style="dim"),
        drawn,
        *(Text(f"  {one}") for one in words.findings(found)),
        Text(words.setting(found), style="dim"),
    )
