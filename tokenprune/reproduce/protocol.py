"""How a paper evaluated: everything that must be equal before figures may be."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import load_file, nearest, typed
from tokenprune.reproduce.files import home
from tokenprune.reproduce.parts import one_of

FOLDER = "protocols"
KINDS = ("choice", "judged", "open")


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


@dataclass(frozen=True)
class Benchmark:
    """A task of the protocol.

    Args:
        task: the word for `task=`
        kind: one of KINDS
        n: samples it has
        tokens: longest answer
        documents: the dataset's repository on the hub
        judge: the model that the paper's answers were judged by
        own: whether the task's file is one of `papers/protocols`
        assumed: why this is our reading, if it is
    """

    task: str
    kind: str
    n: int = 0
    tokens: int | None = None
    documents: str = ""
    judge: str | None = None
    own: bool = False
    assumed: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)


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
            words["include_path"] = str(folder())
        return words

    @property
    def digest(self) -> str:
        """Changes with whatever of it can change a figure."""
        tasks = {name: dataclasses.asdict(one) for name, one in self.tasks.items()}
        text = json.dumps([self.words, tasks], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def folder() -> Path:
    """Where protocols and their tasks lie."""
    return home() / FOLDER


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
