"""What `tokenprune reproduce` prints: the index, a table, and what would fill it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from tokenprune.reproduce import wording
from tokenprune.reproduce.cells import (
    BLOCKED,
    DEVIATES,
    EXACT,
    NOT_RUN,
    PARTIAL,
    REPRODUCED,
    SIGNS,
    SLIP,
    WRONG,
    Cell,
    counted,
)
from tokenprune.reproduce.claims import Verdict
from tokenprune.reproduce.schema import Table

_STYLES = {
    EXACT: "green",
    SLIP: "yellow",
    WRONG: "bold red",
    REPRODUCED: "green",
    DEVIATES: "magenta",
    PARTIAL: "cyan",
    NOT_RUN: "dim",
    BLOCKED: "dim",
}
_CELL, _LABEL = 13, 30  # characters of a column, and of a row's name


def index(counts: Mapping[str, Mapping[str, int]], titles: Mapping[str, str]) -> RenderableType:
    """Every table with how many of its cells have which status."""
    used = [status for status in SIGNS if any(status in one for one in counts.values())]
    drawn = Drawn(box=None, pad_edge=False)
    drawn.add_column("table", no_wrap=True)
    drawn.add_column("")
    for status in used:
        drawn.add_column(status, justify="right", style=_STYLES.get(status, ""))
    for id_, one in counts.items():
        numbers = [f"{one[status]:,}" if status in one else "" for status in used]
        drawn.add_row(id_, titles[id_], *numbers)
    total = [f"{sum(one.get(status, 0) for one in counts.values()):,}" for status in used]
    drawn.add_section()
    drawn.add_row("all", f"{len(counts)} tables and figures", *total)
    return drawn


def table(title: str, shown: Table, made: Sequence[Cell], width: int) -> RenderableType:
    """Printed and ours in a cell, in as many blocks of columns as the width asks for."""
    names = list(dict.fromkeys(cell.name for cell in made))
    by_place = {(cell.row.label, cell.name): cell for cell in made}
    labels = list(dict.fromkeys(cell.row.label for cell in made))
    each = max(1, (width - _LABEL) // _CELL)
    blocks = [names[start : start + each] for start in range(0, len(names), each)]
    parts: list[RenderableType] = [Text(title, style="bold")]
    for block in blocks:
        drawn = Drawn(box=None, pad_edge=False, row_styles=["", "on grey7"])
        drawn.add_column("printed / ours", max_width=_LABEL, overflow="fold")
        for name in block:
            column = shown.columns[name]
            drawn.add_column(f"{column.label or name}", justify="right", max_width=_CELL)
        for label in labels:
            drawn.add_row(label, *(_cell(by_place[label, name]) for name in block))
        parts.append(drawn)
    parts.append(Text(wording.summed(counted(made)), style="dim"))
    signs = {cell.status for cell in made}
    legend = [
        f"{sign} {status}: {wording.MEANINGS[status]}"
        for status, sign in SIGNS.items()
        if sign and status in signs
    ]
    parts.append(Text("\n".join(legend), style="dim"))
    return Group(*parts)


def _cell(cell: Cell) -> Text:
    printed = wording.figure(cell.printed, cell.column)
    found = Text(printed)
    if mine := wording.ours(cell):
        found.append(f" / {mine}", style=_STYLES.get(cell.status, ""))
    return found


def below(
    made: Sequence[Cell],
    claims: Sequence[tuple[str, Verdict, Verdict]],
    commands: Sequence[str],
    remarks: Sequence[str],
) -> Iterator[RenderableType]:
    """Slips, claims, remarks, and what would fill what is missing."""
    yield from _listed("slips", wording.slips(made))
    blocked = {f"{cell.row.label}: {cell.why}": None for cell in made if cell.status == BLOCKED}
    yield from _listed("blocked", list(blocked))
    yield from _listed("claims", [_claim(*one) for one in claims])
    yield from _listed("remarks", remarks)
    if commands:
        yield Text(f"\nnot run: {len(commands)} commands would fill these cells, such as")
        for line in commands[:3]:
            yield Text(f"  {line}", no_wrap=True, overflow="ignore")


def _claim(says: str, printed: Verdict, mine: Verdict) -> str:
    by = "" if printed.by is None else f" by {printed.by:.3g}"
    noise = {None: "", True: ", above the noise", False: ", within the noise"}[printed.clear]
    ours = "" if mine.by is None else f"; on ours: {mine.word}"
    return f"{says}: {printed.word}{by}{noise} on the printed figures{ours}"


def _listed(title: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text(f"\n{title}")
        for line in lines:
            yield Text(f"  {line}", overflow="fold")
