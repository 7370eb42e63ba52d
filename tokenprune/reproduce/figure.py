"""A paper's figure about a video: with the user's video and model, or on the embedded sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenprune.errors import ConfigError
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import ids, read_table
from tokenprune.reproduce.schema import Table

if TYPE_CHECKING:
    from tokenprune.pictures.figures import Drawn

IMAGES = "images"
_ABOUT_VIDEOS = ("video", "question", "assistant", "frames")  # keys of figures alone


def draw(id_: str, table: Table, config: ReproduceConfig, folder: Path) -> Drawn | None:
    """Draws the figure into `folder/images`, as PNG with its numbers and words beside it as JSON.

    None for a table whose file asks for no such figure. Raises TokenpruneError, before weights are
    read wherever the reason is known by then.
    """
    from tokenprune.pictures.figures import NAMES
    from tokenprune.pictures.figures import draw as drawn

    if table.figure is None or table.figure.draws not in NAMES:
        return None
    file = folder / IMAGES / f"{id_.replace('/', '-')}.png"
    return drawn(table.figure.draws, given(id_, table, config), file, table.figure.options)


def check(what: str, config: ReproduceConfig) -> None:
    """ConfigError where a figure's keys stand beside what is none, and where it cannot be drawn."""
    if is_figure(what):
        from tokenprune.pictures.drawing import check_installed

        check_installed()
        given(what, read_table(what), config)
        return
    if asked := [name for name in _ABOUT_VIDEOS if getattr(config, name) is not None]:
        raise ConfigError(
            f"{asked[0]}= is about a figure, and {what} is none that is drawn of a video: leave it "
            f"out, or write one of {', '.join(figures())}"
        )


def is_figure(what: str) -> bool:
    """Whether that is the id of a figure about a video."""
    from tokenprune.pictures.figures import NAMES

    if "/" not in what:
        return False
    table = read_table(what)
    return table.figure is not None and table.figure.draws in NAMES


def figures() -> list[str]:
    """Ids of all figures about videos."""
    return [id_ for id_ in ids() if is_figure(id_)]


def given(id_: str, table: Table, config: ReproduceConfig) -> dict[str, Any]:
    """What the user says about a figure; ConfigError for several models."""
    if len(config.model) > 1:
        raise ConfigError(
            f"{id_} is drawn of one model, and {len(config.model)} are named: leave all but one of "
            f"{', '.join(f'model.{name}=' for name in config.model)} out"
        )
    for name in config.model:
        if name not in table.models:
            known = ", ".join(f"model.{one}=" for one in table.models) or "no model"
            raise ConfigError(f"model.{name}= is no model of {id_}: write {known}")
    return {
        "model": next(iter(config.model.values()), None),
        "assistant": config.assistant,
        "video": config.video,
        "question": config.question,
        "frames": config.frames,
        "seed": config.seed,
        "device": config.device,
        "dtype": config.dtype,
    }
