"""What `tokenprune reproduce` prints: the index, a table, and what would fill it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Drawn
from rich.text import Text

from tokenprune.reproduce import wording
from tokenprune.reproduce.cell import (
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
)
from tokenprune.reproduce.cells import counted
from tokenprune.reproduce.claims import Verdict
from tokenprune.reproduce.costs import Cost, together
from tokenprune.reproduce.jobs import Planned
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


def plan(title: str, costs: Sequence[tuple[Planned, Cost]]) -> RenderableType:
    """Jobs that are missing, and what they cost."""
    drawn = Drawn(box=None, pad_edge=False)
    drawn.add_column("job", overflow="fold", max_width=60)
    for name in ("cells", "samples", "hours", "weights GB", "judge calls"):
        drawn.add_column(name, justify="right")
    every = together(costs)
    for planned, one in costs:
        task = f", {planned.job.task}" if planned.job.task else ""
        drawn.add_row(f"{planned.places[0].row}{task}", str(len(planned.places)), *_costs(one))
    drawn.add_section()
    cells = sum(len(planned.places) for planned, _ in costs)
    drawn.add_row(f"{len(costs)} jobs", f"{cells:,}", *_costs(every))
    about = (
        "hours on one GPU, from one user's log: 4.8 s a VideoMME question of the 7B model at 32 "
        "frames; each strategy's job has its random control, the full model is run once. Disk for "
        "videos comes on top."
    )
    lacks = [one.lacks for _, one in costs if one.lacks is not None]
    told = [
        Text(f"{lacks.count(why)} jobs: {why}", overflow="fold") for why in dict.fromkeys(lacks)
    ]
    below = Text(about, style="dim", overflow="fold")
    return Group(Text(title, style="bold"), drawn, *told, below)


def _costs(one: Cost) -> tuple[str, str, str, str]:
    return (
        f"{one.samples:,}" if one.samples else "",
        "?" if one.hours is None else f"{one.hours:.1f}",
        f"{one.gigabytes:.1f}" if one.gigabytes else "",
        f"{one.calls:,}" if one.calls else "",
    )


def below(
    shown: Table,
    made: Sequence[Cell],
    claims: Sequence[tuple[str, Verdict, Verdict]],
    commands: Sequence[str],
    remarks: Sequence[str],
    lacks: Sequence[str],
) -> Iterator[RenderableType]:
    """Slips, claims, remarks, and what would fill what is missing.

    `lacks`: why it is, job by job.
    """
    yield from _listed("slips", wording.slips(made))
    yield from _listed("measured elsewhere, so without a verdict", wording.machines(made))
    yield from _listed("beside the full model", wording.ratios(shown, made))
    blocked = {f"{cell.row.label}: {cell.why}": None for cell in made if cell.status == BLOCKED}
    yield from _listed("blocked", list(blocked))
    yield from _listed("claims", [_claim(*one) for one in claims])
    yield from _listed("remarks", remarks)
    yield from _listed("not run here and now", [*_counted(lacks), *_never(made)])
    if commands:
        yield Text(f"\n{len(commands)} commands would fill these cells, such as")
        for line in commands[:3]:
            yield Text(f"  {line}", no_wrap=True, overflow="ignore")


def _claim(says: str, printed: Verdict, mine: Verdict) -> str:
    by = "" if printed.by is None else f" by {printed.by:.3g}"
    noise = {None: "", True: ", above the noise", False: ", within the noise"}[printed.clear]
    ours = "" if mine.by is None else f"; on ours: {mine.word}"
    return f"{says}: {printed.word}{by}{noise} on the printed figures{ours}"


def _counted(lacks: Sequence[str]) -> list[str]:
    """Each reason once, with how many jobs have it."""
    found = {why: lacks.count(why) for why in lacks}
    return [f"{number} {'job' if number == 1 else 'jobs'}: {why}" for why, number in found.items()]


def _never(made: Sequence[Cell]) -> list[str]:
    """Columns that no run here fills, with the reason."""
    cells = [cell for cell in made if cell.status == NOT_RUN and cell.why]
    return list(dict.fromkeys(f"{wording.title(cell)}: {cell.why}" for cell in cells))


def _listed(title: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text(f"\n{title}")
        for line in lines:
            yield Text(f"  {line}", overflow="fold")
