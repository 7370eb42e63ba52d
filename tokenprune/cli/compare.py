"""`tokenprune compare`: two finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenprune.cli.command import Command, narrow
from tokenprune.cli.waiting import waiting
from tokenprune.errors import ConfigError
from tokenprune.options import key, read_options

ABOUT = """Compares two finished runs on the samples they share: scores by category, their
difference with a paired 95 % interval and McNemar's exact test, tokens and FLOPs.

examples:
  tokenprune compare runs/a runs/b
  tokenprune compare runs/a runs/b out=table.csv       or table.json
"""


@dataclass(frozen=True)
class CompareConfig:
    """Everything `tokenprune compare` can be told."""

    folders: list[str] = key(list, "")
    out: str | None = key(None, "a table as a file, .csv or .json")

    def __post_init__(self) -> None:
        if len(self.folders) != 2:
            raise ConfigError(
                f"two runs are compared, not {len(self.folders)}: write two folders, as in "
                "`tokenprune compare runs/a runs/b`"
            )
        if self.out is None:
            return
        if Path(self.out).suffix not in (".csv", ".json"):
            raise ConfigError(
                f"out={self.out} is not a kind of table that is known: write out=FILE.csv or "
                "out=FILE.json"
            )
        if Path(self.out).expanduser().exists():
            raise ConfigError(f"out={self.out} exists already: write another name, or remove it")


def read(words: Sequence[str]) -> CompareConfig:
    """Raises ConfigError."""
    return read_options(CompareConfig, words, bare="folders")


def run(words: Sequence[str], line: str) -> None:
    """Prints the table, and writes it where `out=` says so."""
    config = read(words)
    first, second = (Path(folder).expanduser() for folder in config.folders)
    with waiting("reading two runs"):
        from tokenprune.evaluation.compare import compare
        from tokenprune.evaluation.compare_screen import screen, write

        found = compare((first, second))
    if config.out is not None:
        write(found, Path(config.out).expanduser())
    narrow().print(screen(found))
    if config.out is not None:
        print(f"wrote {config.out}")


COMMAND = Command(
    "compare", "two finished runs", ABOUT, "FOLDER FOLDER out=FILE", run, schema=CompareConfig
)
