"""The files of `tokenprune/papers/`: which there are, and what they say."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import load_file, nearest, typed
from tokenprune.reproduce.schema import Paper, Table

ABOUT = "paper.yaml"
ALL = "all"


def home() -> Path:
    """The folder of all papers, as it was installed."""
    return Path(str(importlib.resources.files("tokenprune"))) / "papers"


def papers() -> list[str]:
    """Folders that hold a paper; those with the most tables first."""
    found = [file.parent for file in home().glob(f"*/{ABOUT}")]
    return [
        one.name
        for one in sorted(found, key=lambda one: (-len(list(one.glob("*.yaml"))), one.name))
    ]


def read_paper(name: str) -> Paper:
    """Raises ConfigError for a paper that is not there, or a file that is off."""
    _known(name, papers(), "paper")
    return _read(f"{name}/{ABOUT}", Paper, *_state(home() / name / ABOUT))


def ids() -> list[str]:
    """`dycoke/table1` and all others, in the order that their papers give."""
    return [f"{paper}/{table}" for paper in papers() for table in read_paper(paper).tables]


def path(id_: str) -> Path:
    """Where the file of a table lies; not whether it does."""
    return home() / f"{id_}.yaml"


def read_table(id_: str) -> Table:
    """Raises ConfigError for a table that is not there, or a file that is off."""
    paper, _, name = id_.partition("/")
    tables = read_paper(paper).tables
    _known(name, tables, f"table of {paper}")
    return _read(f"{id_}.yaml", Table, *_state(path(id_)))


def _state(file: Path) -> tuple[str, int]:
    """Changes with the file: it is read once, and again when it is another."""
    return str(file), file.stat().st_mtime_ns if file.is_file() else 0


@functools.cache
def _read(name: str, schema: type[Any], file: str, changed: int) -> Any:
    found = load_file(file)
    if schema is Table:
        found["paper"] = Path(file).parent.name
    return typed(name, found, schema)


def named(what: str) -> list[str]:
    """Ids of `dycoke/table1`, of a whole paper (`dycoke`) or of `all`. Raises ConfigError."""
    if what == ALL:
        return ids()
    paper, line, table = what.partition("/")
    if not line:
        _known(paper, [*papers(), ALL], "paper")
        return [f"{paper}/{name}" for name in read_paper(paper).tables]
    _known(paper, papers(), "paper")
    _known(table, read_paper(paper).tables, f"table of {paper}")
    return [what]


def tables(what: str = ALL) -> Iterator[tuple[str, Table]]:
    """The tables that `what` names, with their ids."""
    for id_ in named(what):
        yield id_, read_table(id_)


def _known(name: str, names: list[str], kind: str) -> None:
    if name in names:
        return
    near = nearest(name, names)
    hint = f"did you mean {near}? " if near else ""
    raise ConfigError(f"there is no {kind} {name!r}: {hint}There are {', '.join(names)}")
