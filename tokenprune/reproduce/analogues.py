"""`tokenprune reproduce WHAT analogue=true`: grids on the embedded models, run, kept and shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tokenprune.errors import ConfigError
from tokenprune.reproduce import analogue, grid
from tokenprune.reproduce.arms import arms
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import named, read_table
from tokenprune.reproduce.grid_page import screen

if TYPE_CHECKING:
    from rich.console import Console


def analogues(config: ReproduceConfig, line: str, console: Console) -> None:
    """Runs what is not finished of every analogue that is named, writes its figures, prints it.

    Raises TokenpruneError, OSError; what was finished before stays.
    """
    for id_ in having(config):
        table = read_table(id_)
        if config.plan:
            console.print(_planned(id_, config))
            continue
        found = analogue.run(id_, table, config, line)
        out = Path(config.out).expanduser()
        file = grid.committed(id_) if config.commit else grid.own(out, id_)
        grid.write(file, found)
        console.print(screen(f"{id_}: {table.title}", found))
        console.print(Text(f"Figures in {file}", style="dim"))


def having(config: ReproduceConfig) -> list[str]:
    """The tables with an analogue among those that are named. ConfigError where there is none."""
    names = [id_ for what in config.what for id_ in named(what)]
    found = [id_ for id_ in names if read_table(id_).analogue is not None]
    if not found:
        known = ", ".join(id_ for id_ in named("all") if read_table(id_).analogue is not None)
        raise ConfigError(
            f"{', '.join(config.what)} has no analogue on the embedded models: write one of {known}"
        )
    return found


def _planned(id_: str, config: ReproduceConfig) -> Text:
    """What would be run, controls not counted: theirs are the budgets that are measured."""
    asked = read_table(id_).analogue
    assert asked is not None
    samples, found = config.limit or asked.samples, arms(asked)
    frames = len({arm.frames for arm in found})
    return Text(
        f"{id_}: {len(found)} methods and {frames} full models on {samples} samples of "
        f"{asked.task} with {asked.model}, then `random` and `uniform` at each measured budget"
    )
