"""`tokenprune list`: what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.cli.command import Command, console, keys
from tokenprune.cli.waiting import waiting
from tokenprune.options import key, read_options

ABOUT = """Lists the strategies: where they act, their options with defaults, and their papers.
Then what a run can name besides: tasks, model families and checkpoints.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune list
  tokenprune list plugin=mine.py
  tokenprune list --markdown > table.md                the strategies alone
"""


MARKDOWN = "--markdown"


@dataclass(frozen=True)
class ListConfig:
    """Everything `tokenprune list` can be told."""

    plugin: list[str] = key(
        list, "a Python file of yours, whose strategies are listed, too", repeated=True
    )


def run(words: Sequence[str], line: str) -> None:
    """Prints tables, or one as Markdown."""
    config = read_options(ListConfig, [word for word in words if word != MARKDOWN])
    with waiting():
        from tokenprune.cli import catalogue
        from tokenprune.plugins import load_plugins

        load_plugins(config.plugin)
        catalogue.entries()  # imports them
    if MARKDOWN in words:
        print(catalogue.strategies_markdown())
        return
    screen = console()
    screen.print(catalogue.listing())
    screen.print(catalogue.others())


COMMAND = Command(
    "list",
    "strategies, tasks, model families and checkpoints",
    ABOUT.format(keys=keys(ListConfig)),
    "KEY=VALUE",
    run,
    schema=ListConfig,
)
