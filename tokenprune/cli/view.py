"""`tokenprune view`: the page `report.html` of a finished run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenprune.cli.command import Command, keys
from tokenprune.cli.waiting import waiting
from tokenprune.errors import ConfigError
from tokenprune.options import key, read_options

if TYPE_CHECKING:
    from tokenprune.evaluation.run import Finished

_PATIENCE = 1.6  # seconds that a run spends on frames of its page: less than two on all of it
ABOUT = """Writes report.html into the folder of a finished run: one file to look at, without a
network and for any browser. What the run says comes first, then its samples, those whose answers
changed before all others, each with its frames on which kept cells are bright and dropped ones
dark, then every figure with what it means, categories, plots, and what was asked. Needs no model:
frames are read or made again from what the run was given. Every `tokenprune run` writes its page
by itself, unless it has report=false.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune view runs/mine
  tokenprune view runs/sweep/cells/fastv-18of36 out=fastv.html
"""


@dataclass(frozen=True)
class ViewConfig:
    """Everything `tokenprune view` can be told."""

    folder: str = key("", "")
    out: str | None = key(None, "an .html; FOLDER/report.html by default")

    def __post_init__(self) -> None:
        if not self.folder:
            raise ConfigError(
                "no run to look at: write its folder first, as in `tokenprune view runs/mine`"
            )
        if self.out is not None and not self.out.endswith((".html", ".htm")):
            raise ConfigError(f"out={self.out} is no page: write a name that ends in .html")


def run(words: Sequence[str], line: str) -> None:
    """Writes the page, and says where it is."""
    config = read_options(ViewConfig, words, bare="folder")
    with waiting():
        from tokenprune.view.write import write

        written = write(config.folder, config.out)
    for reason, count in written.without:
        print(f"{count} of {written.samples} samples are without pictures: {reason}")
    print(f"wrote {written.file}")


def look(finished: Finished) -> None:
    """A run's page, and where it is.

    Its results are on disk already: a page that cannot be written is a note, and no more.
    """
    from tokenprune.view.write import write

    again = f"`tokenprune view {finished.folder}` tries it again"
    try:
        written = write(finished.folder, task=finished.task, seconds=_PATIENCE)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted while report.html was made: the results are in {finished.folder}, "
            f"and {again}"
        ) from None
    except Exception as error:  # whatever it is
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"tokenprune: note: report.html was not made ({reason}): {again}", file=sys.stderr)
        return
    print(f"Look at it in {written.file}")


COMMAND = Command(
    "view",
    "a finished run as one page to look at",
    ABOUT.format(keys=keys(ViewConfig)),
    "FOLDER KEY=VALUE",
    run,
    schema=ViewConfig,
)
