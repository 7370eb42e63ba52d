"""How a paper evaluated: everything that must be equal before figures may be."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import load_file, nearest, typed
from tokenprune.reproduce.files import home
from tokenprune.reproduce.parts import one_of
from tokenprune.reproduce.schema import Table

FOLDER = "protocols"
OPEN = "open"  # answers that a public server scores: no figure can be had here
JUDGED = "judged"
KINDS = ("choice", JUDGED, OPEN)
_SOURCES = (".py", ".yaml")  # of tasks


@dataclass(frozen=True)
class Item:
    """One thing that differs between the papers' harness and the one here.

    Args:
        about: what it is
        papers: as the papers had it
        here: as it is here today without the protocol
        settled: what the protocol does about it
        followed: whether that is what the papers had
    """

    about: str
    papers: str
    here: str
    settled: str
    followed: bool = True

    @property
    def text(self) -> str:
        """In words, for a page."""
        parts = (self.papers, self.here, self.settled)
        papers, here, settled = (part.strip().rstrip(".") for part in parts)
        sign = "as in the papers" if self.followed else "not as in the papers"
        return f"{self.about}: {papers}. Without the protocol: {here}. With it: {settled} ({sign})."


@dataclass(frozen=True)
class Benchmark:
    """A task of the protocol.

    Args:
        task: the word for `task=`
        kind: one of KINDS
        n: samples it has
        tokens: longest answer
        documents: the dataset's repository on the hub
        videos: the folder of its videos, where lmms-eval's code looks for them below HF_HOME
        judge: the model that the paper's answers were judged by
        own: whether the task's file is one of `papers/protocols/tasks`
        assumed: why this is our reading, if it is
    """

    task: str
    kind: str
    n: int = 0
    tokens: int | None = None
    documents: str = ""
    videos: str = ""
    judge: str | None = None
    own: bool = False
    assumed: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)

    @property
    def text(self) -> str:
        """In words, for a page."""
        whose = "our file" if self.own else "lmms-eval's"
        said = [f"{self.task.removeprefix('lmms:')} ({whose})"]
        if self.n:
            said.append(f"{self.n:,} questions")
        if self.documents:
            said.append(f"of {self.documents}")
        if self.tokens is not None:
            said.append(f"answers of up to {self.tokens:,} tokens")
        if self.judge is not None:
            said.append(f"judged in the paper by {self.judge}")
        if self.assumed:
            said.append(f"assumed: {self.assumed}")
        return ", ".join(said)


@dataclass(frozen=True)
class Protocol:
    """How a paper evaluated.

    Args:
        title: in a few words
        words: keys of `tokenprune run` that hold for all of its tasks, such as template and dtype
        tasks: by the name that columns use
        items: what differs from the harness here, and what is done about it
    """

    title: str
    words: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Benchmark] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    def task(self, name: str) -> Benchmark:
        """ConfigError for a task that the protocol does not have."""
        if name not in self.tasks:
            near = nearest(name, list(self.tasks))
            hint = f"did you mean {near}? " if near else ""
            raise ConfigError(
                f"the protocol has no task {name!r}: {hint}It has {', '.join(self.tasks)}"
            )
        return self.tasks[name]

    def run_words(self, name: str) -> dict[str, Any]:
        """Keys of `tokenprune run` for one task."""
        mine = self.task(name)
        words: dict[str, Any] = {**self.words, "task": mine.task}
        if mine.tokens is not None:
            words["max_new_tokens"] = mine.tokens
        if mine.own:
            words["include_path"] = str(own_tasks())
        return words

    @property
    def digest(self) -> str:
        """Changes with whatever of it can change a figure, the code of its own tasks included."""
        tasks = {name: _told(one) for name, one in self.tasks.items()}
        return _digest([self.words, tasks], any(one.own for one in self.tasks.values()))

    def digest_of(self, name: str) -> str:
        """Changes with whatever can change the answers to one task and how they are read, so that
        protocols which ask alike share runs: not with the judge, which is a word of the run.
        """
        task = dataclasses.replace(self.task(name), judge=None, documents="", assumed="")
        return _digest([self.words, _told(task)], task.own)

    def told(self) -> Iterator[str]:
        """The title, every item and every task in words, a line each."""
        yield f"{self.title} (digest {self.digest})."
        yield from (item.text for item in self.items)
        for name, one in self.tasks.items():
            yield f"{name}: {one.text}."


def _told(task: Benchmark) -> dict[str, Any]:
    """Of a task what counts: not where its videos lie."""
    return {name: value for name, value in dataclasses.asdict(task).items() if name != "videos"}


def _digest(content: Any, own: bool) -> str:
    """`own`: of the code of the protocols' own tasks, too."""
    text = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    if own:
        for file in sorted(own_tasks().iterdir()):
            if file.suffix in _SOURCES:
                text.update(file.name.encode() + file.read_bytes())
    return text.hexdigest()[:12]


def samples(table: Table, name: str) -> int:
    """How many samples are behind a printed score of a column; 0 where that is not on file."""
    column = table.columns[name]
    if column.n is not None or table.protocol is None or not column.task:
        return column.n or 0
    return read_protocol(table.protocol).task(column.task).n


def folder() -> Path:
    """Where protocols lie."""
    return home() / FOLDER


def own_tasks() -> Path:
    """Tasks of lmms-eval that differ from those it has now, for `include_path=`."""
    return folder() / "tasks"


def protocols() -> list[str]:
    """Names of all protocols."""
    return sorted(file.stem for file in folder().glob("*.yaml") if "words" in load_file(str(file)))


@functools.cache
def read_protocol(name: str) -> Protocol:
    """Raises ConfigError for one that is not there, or a file that is off."""
    file = folder() / f"{name}.yaml"
    if not file.is_file():
        raise ConfigError(f"there is no protocol {name!r} in {folder()}")
    return typed(f"{FOLDER}/{name}.yaml", load_file(str(file)), Protocol)
