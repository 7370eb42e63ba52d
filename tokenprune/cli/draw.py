"""`tokenprune draw`: what a run kept of one sample, over its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.cli.command import Command, keys
from tokenprune.errors import ConfigError
from tokenprune.options import key, read_options

ABOUT = """Draws what the systems of a finished run kept of one sample: its frames with dropped
cells faint, the number of kept tokens under each frame, the weights of frames below where an
allocator gave them, and a star on frames that hold what is asked about, where the task knows them.
Needs no model: the frames are made again from what the run was given.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune draw runs/mine sample=tinyvqa-0-16-00008
  tokenprune draw runs/mine sample=8 out=kept.pdf dpi=300
  tokenprune draw runs/mine sample=8 strategy=vanilla,random
  tokenprune draw runs/sweep sample=8 strategy=uniform-09of36,visionzip-09of36
"""


@dataclass(frozen=True)
class DrawConfig:
    """Everything `tokenprune draw` can be told."""

    folder: str = key("", "")
    sample: str | None = key(None, "the sample's id, or its number in the run; needed")
    strategy: list[str] = key(
        list,
        "systems by role, label or cell, one below the other; the control and the strategy",
    )
    out: str | None = key(None, "a .png, .svg or .pdf; FOLDER/figures/ID.png by default")
    dpi: int = key(150, "dots per inch; 300 for print")

    def __post_init__(self) -> None:
        if not self.folder:
            raise ConfigError(
                "no run to draw: write its folder first, as in `tokenprune draw runs/mine sample=8`"
            )
        if self.sample is None:
            raise ConfigError("no sample to draw: add sample=ID, or its number as in sample=0")


def run(words: Sequence[str], line: str) -> None:
    """Writes the figure, and says what it shows."""
    config = read_options(DrawConfig, words, bare="folder")
    from tokenprune.pictures.drawing import check_file, check_installed

    check_installed()
    if config.out is not None:
        check_file(config.out, config.dpi)
    from tokenprune.pictures.of_run import Asked, draw_run

    assert config.sample is not None
    asked = Asked(config.folder, config.sample, config.strategy, config.out, config.dpi)
    drawn = draw_run(asked)
    print(drawn.alt)
    print(f"wrote {drawn.files[0]}")


COMMAND = Command(
    "draw",
    "what a run kept of one sample, over its frames",
    ABOUT.format(keys=keys(DrawConfig)),
    "FOLDER sample=ID KEY=VALUE",
    run,
    schema=DrawConfig,
)
