"""`tokenprune reproduce WHAT analogue=true`: grids on the embedded models, run, kept and shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tokenprune.errors import ConfigError
from tokenprune.plugins import load_plugins
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import ids, named, path, read_table
from tokenprune.reproduce.grids import analogue, grid
from tokenprune.reproduce.grids.arms import arms, plugins
from tokenprune.reproduce.grids.screen import screen

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
    found = _with_one(id_ for what in config.what for id_ in named(what))
    if not found:
        raise ConfigError(
            f"{', '.join(config.what)} has no analogue on the embedded models: write one of "
            f"{', '.join(_with_one(ids()))}"
        )
    return found


def _with_one(names: Iterable[str]) -> list[str]:
    """Those whose file has an analogue, by its text: to read all of them takes seconds."""
    return [id_ for id_ in names if "\nanalogue:" in path(id_).read_text(encoding="utf-8")]


def _planned(id_: str, config: ReproduceConfig) -> Text:
    """What would be run, controls not counted: theirs are the budgets that are measured."""
    asked = read_table(id_).analogue
    assert asked is not None
    load_plugins(plugins(id_, asked))
    samples, found = config.limit or asked.samples, arms(asked)
    frames = len({arm.frames for arm in found})
    full = f"{frames} full model{'s' if frames > 1 else ''}"
    return Text(
        f"{id_}: {len(found)} methods and {full} on {samples} samples of "
        f"{asked.task} with {asked.model}, then `random` and `uniform` at each measured budget"
    )
