"""Sheets as HTML: a fragment for any page, and a whole page around one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokenprune.sheets.charts import TALL, WIDE, charts
from tokenprune.sheets.mask import mask
from tokenprune.sheets.sheet import Sheet
from tokenprune.sheets.thumbnails import DOWN, Strip, columns_of, strip
from tokenprune.templates import environment

TEMPLATES = Path(__file__).parent / "templates"


class _Tile(NamedTuple):
    """One frame as the template has it."""

    style: str  # where it lies in the strip
    number: int
    kept: int
    cells: int
    time: str
    evident: bool


def fragment(sheet: Sheet, sprite: Strip | None = None) -> str:
    """A `<figure>`: what was kept over all frames, with curves of weights, layers and steps.

    `sprite`: thumbnails of the same frames that an element around the fragment carries as
    `style="{sprite.style}"`, so that several sheets share them; None: the fragment carries its own.
    It needs the rules of `css()` somewhere on its page, see `standing`.
    """
    own = strip(sheet.frames) if sprite is None and len(sheet.frames) else None
    known = own or sprite
    ratio = known.ratio if known else _ratio(sheet)
    if len(sheet.frames):
        shapes = [(frame.shape[0], frame.shape[1]) for frame in sheet.frames]
    else:
        shapes = [(round(1000 / ratio), 1000)] * len(sheet.slots)
    whole = all(
        len(cells) == height * width
        for cells, (height, width) in zip(sheet.slots, sheet.grids, strict=True)
    )
    return (
        environment(TEMPLATES)
        .get_template("sheet.html.j2")
        .render(
            sheet=sheet,
            own=own,
            mask=None if whole else mask(sheet.slots, sheet.grids, shapes),
            ratio=f"{ratio:.4g}",
            across=columns_of(len(sheet.slots)),
            down=min(DOWN, len(sheet.slots)),
            tiles=list(_tiles(sheet)),
            average=None if sheet.average is None else f"{100 * sheet.average:.1f}",
            share=f"{100 * sheet.kept / max(1, sheet.total):.1f}",
            charts=list(charts(sheet)),
            wide=WIDE,
            tall=TALL,
        )
    )


def standing(sheet: Sheet, sprite: Strip | None = None) -> str:
    """A fragment with its rules: alone in a notebook or an interface that is not ours."""
    inside = fragment(sheet, sprite)
    around = "" if sprite is None else f' style="{sprite.style}"'
    return f"<div{around}><style>{css()}</style>\n{inside}</div>"


def css() -> str:
    """Rules of sheets, all below `.tp-sheet`: they change nothing else of a page."""
    return (TEMPLATES / "sheet.css").read_text(encoding="utf-8")


def page(title: str, body: str, style: str = "", script: str = "") -> str:
    """A whole document, for light and dark screens, wide and narrow ones.

    `body`, `style` and `script` are HTML, rules and a program as they stand.
    """
    base = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    return (
        environment(TEMPLATES)
        .get_template("page.html.j2")
        .render(title=title, body=body, style=f"{base}\n{css()}\n{style}", script=script)
    )


def _ratio(sheet: Sheet) -> float:
    height, width = sheet.grids[0] if sheet.grids else (1, 1)
    return min(4.0, max(0.25, width / height))


def _tiles(sheet: Sheet) -> Iterator[_Tile]:
    several = columns_of(len(sheet.slots)) > 1
    for place, (cells, (height, width)) in enumerate(zip(sheet.slots, sheet.grids, strict=True)):
        column, row = divmod(place, DOWN)
        style = f"--x:{column};--y:{row}" if several else f"--y:{row}"
        time = "" if sheet.seconds is None else clock(sheet.seconds[place])
        evident = place in sheet.evidence
        yield _Tile(style, place + 1, len(cells), height * width, time, evident)


def clock(seconds: float | int) -> str:
    """`7.5 s`, `4:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
