"""What `tokenprune reproduce` does, by its words."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tokenprune.errors import ConfigError
from tokenprune.reproduce import figure, flips, ours, screen
from tokenprune.reproduce.available import here, is_place
from tokenprune.reproduce.cell import Cell
from tokenprune.reproduce.cells import cells, counted
from tokenprune.reproduce.check import faults
from tokenprune.reproduce.claims import Verdict, on_ours, on_printed
from tokenprune.reproduce.commands import missing
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.costs import cost
from tokenprune.reproduce.files import ALL, named, read_table, tables
from tokenprune.reproduce.jobs import Planned, plan
from tokenprune.reproduce.noise import Noise
from tokenprune.reproduce.parts import Claim
from tokenprune.reproduce.protocol import Benchmark, read_protocol, samples
from tokenprune.reproduce.schema import Row, Table
from tokenprune.reproduce.work import work

if TYPE_CHECKING:
    from rich.console import Console


def reproduce(config: ReproduceConfig, line: str, console: Console) -> None:
    """Raises TokenpruneError, OSError; SystemExit(1) after a failed check."""
    if config.check:
        _check(config.what, console)
        return
    if not config.what and not config.plan:
        _index(config, console)
        return
    _check_models(config)
    if config.analogue:
        from tokenprune.reproduce.grids.analogues import analogues  # which loads torch

        analogues(config, line, console)
        return
    for what in config.what:
        figure.check(what, config)
    if config.plan:
        _plan(config, console)
        return
    failed: list[str] = []
    for what in config.what:
        for id_ in named(what):
            failed += _table(config, id_, line, console)
    _pages(config, console)
    for first in failed[:1]:
        others = f" and {len(failed) - 1} other jobs" if len(failed) > 1 else ""
        raise ConfigError(f"{first}{others}: finished jobs stay in {config.out}")


def _pages(config: ReproduceConfig, console: Console) -> None:
    """Of every paper of which a table was asked for."""
    from tokenprune.reproduce.pages import write_pages

    out = Path(config.out).expanduser()
    names = dict.fromkeys(id_.partition("/")[0] for what in config.what for id_ in named(what))
    files = ", ".join(map(str, write_pages(list(names), out, out)))
    console.print(Text(f"\npages: {files}", style="dim"), soft_wrap=True)


def _check_models(config: ReproduceConfig) -> None:
    """ConfigError for weights of a model that no table that was asked for has, and for a folder
    that is none.
    """
    names = {name for what in config.what for _, table in tables(what) for name in table.models}
    for name, value in config.model.items():
        if name not in names and config.what:
            known = ", ".join(f"model.{one}=" for one in sorted(names)) or "none"
            raise ConfigError(f"model.{name}= is no model of these tables: they have {known}")
        if is_place(str(value)) and not here(str(value)):
            raise ConfigError(f"model.{name}={value} is no folder: write one with a config.json")


def _check(what: Sequence[str], console: Console) -> None:
    found = [fault for one in what or [ALL] for fault in faults(one)]
    for fault in found:
        console.print(fault, markup=False, highlight=False)
    names = [id_ for one in what or [ALL] for id_ in named(one)]
    if found:
        console.print(f"{len(found)} faults in {len(names)} tables")
        raise SystemExit(1)
    console.print(f"{len(names)} tables: every figure without a run is exact or a known slip")


def _index(config: ReproduceConfig, console: Console) -> None:
    out = Path(config.out).expanduser()
    every = list(tables())
    counts = {id_: counted(cells(table, ours.known(out, id_))) for id_, table in every}
    console.print(screen.index(counts, {id_: table.title for id_, table in every}))


def _table(config: ReproduceConfig, id_: str, line: str, console: Console) -> list[str]:
    """Prints a table with all that can be had of it now; returns what jobs failed of."""
    whole = read_table(id_)
    chosen = choose(whole, config.rows, config.columns)
    out = Path(config.out).expanduser()
    noise = flips.known(out)

    def now() -> list[Cell]:
        return cells(whole, ours.known(out, id_), noise)

    planned = plan([(id_, whole, _of(chosen, _own(whole, id_, config)))], config)
    if config.noise:
        console.print(flips.measure(planned, config, line).measured, highlight=False)
        return []
    worked = work(planned, config, line, lambda told: print(told, file=sys.stderr, flush=True))
    if config.commit:
        ours.add(ours.committed(id_), ours.read(ours.own(out, id_)))
    every = now()
    made = _of(chosen, every)
    console.print(screen.table(f"{id_}: {whole.title}", chosen, made, console.width))
    claims = [(claim.says, *_verdicts(whole, claim, every, noise)) for claim in whole.claims]
    for part in screen.below(
        chosen, made, claims, missing(id_, chosen, made), whole.remarks, worked.lacks
    ):
        console.print(part, soft_wrap=isinstance(part, Text))
    if id_ in config.what:  # of a whole paper it would take a minute
        _figure(config, id_, whole, console)
    return [f"{id_}, {reason}" for reason in worked.failed]


def _plan(config: ReproduceConfig, console: Console) -> None:
    """Of all tables together, which share jobs."""
    wanted = []
    what = config.what or [ALL]
    for id_ in dict.fromkeys(id_ for one in what for id_ in named(one)):
        whole = read_table(id_)
        chosen = choose(whole, config.rows, config.columns)
        wanted.append((id_, whole, _of(chosen, _own(whole, id_, config))))
    planned = plan(wanted, config)
    by_id = {id_: table for id_, table, _ in wanted}
    costs = [(one, cost(one, _task(by_id, one), config)) for one in planned]
    console.print(screen.plan(" ".join(what), costs))


def _own(table: Table, id_: str, config: ReproduceConfig) -> list[Cell]:
    """Cells on the user's own figures: those that the project ships keep nobody from a run."""
    return cells(table, ours.read(ours.own(Path(config.out).expanduser(), id_)))


def _task(tables: Mapping[str, Table], planned: Planned) -> Benchmark | None:
    """What a job asks, as its protocol has it."""
    name = tables[planned.places[0].id_].protocol
    if name is None or not planned.job.task:
        return None
    return read_protocol(name).task(planned.job.task)


def _verdicts(
    table: Table, claim: Claim, made: Sequence[Cell], noise: Noise
) -> tuple[Verdict, Verdict]:
    by_place = {(cell.row.label, cell.name): cell for cell in made}
    n = samples(table, claim.column) or None
    return on_printed(table, claim, n, noise), on_ours(table, claim, by_place)


def _figure(config: ReproduceConfig, id_: str, table: Table, console: Console) -> None:
    """Draws a figure about a video, and says what is to be seen and where."""
    drawn = figure.draw(id_, table, config, Path(config.out).expanduser())
    if drawn is not None:
        for told in (drawn.alt, drawn.caption, *map(str, drawn.files)):
            console.print(told, markup=False, highlight=False, soft_wrap=True)


def _of(chosen: Table, made: Sequence[Cell]) -> list[Cell]:
    """The cells of a table's rows and columns that were chosen."""
    labels = {row.label for row in chosen.rows}
    return [cell for cell in made if cell.row.label in labels and cell.name in chosen.columns]


def choose(table: Table, rows: Sequence[str], columns: Sequence[str]) -> Table:
    """With these rows, by method or name, and these columns alone; all where none is named.

    ConfigError for a name that is not there.
    """
    for name in columns:
        if name not in table.columns:
            raise ConfigError(
                f"columns={name} is not in this table: write of {', '.join(table.columns)}"
            )
    for name in rows:
        if not any(_is(name, table, label) for label in table.rows):
            labels = ", ".join(row.label for row in table.rows)
            raise ConfigError(f"rows={name} is not in this table: write of {labels}")
    kept = [row for row in table.rows if not rows or any(_is(name, table, row) for name in rows)]
    places = [place for place, name in enumerate(table.columns) if not columns or name in columns]
    names = [list(table.columns)[place] for place in places]
    return dataclasses.replace(
        table,
        columns={name: table.columns[name] for name in names},
        rows=[
            dataclasses.replace(row, printed=[row.printed[place] for place in places])
            for row in kept
        ],
    )


def _is(name: str, table: Table, row: Row) -> bool:
    return fnmatch(row.method, name) or fnmatch(row.label, name)
