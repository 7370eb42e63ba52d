"""Tasks by name. A task is one file of this folder and one line of `_KNOWN`; its module is imported on first use.

`files:PATH` is the task of an annotations file.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable

from tokenprune.tasks.base import Sample, Task

__all__ = ["Sample", "Task", "build", "kind", "names"]

_KNOWN = {"tinyvqa": "tokenprune.tasks.tinyvqa:TinyVQA"}
_FILES = "files:"


def names() -> list[str]:
    """Tasks that make their samples themselves."""
    return sorted(_KNOWN)


def build(name: str, *, samples: int | None, frames: int, seed: int) -> Task:
    """The task `name` with `samples` samples (None: as many as it has by default) of `frames` frames each.

    Raises ValueError.
    """
    if not name.startswith(_FILES):
        if name.endswith((".json", ".jsonl")):
            raise ValueError(f"unknown task {name!r}: for an annotations file write {_FILES}{name}")
        return kind(name)(samples=samples, frames=frames, seed=seed)
    if samples is not None:
        raise ValueError("samples= is for tasks that make samples, and a file has its own: write limit= to use fewer")
    from tokenprune.tasks.files import Files

    return Files(name.removeprefix(_FILES), frames=frames)


def kind(name: str) -> Callable[..., Task]:
    """The class of the task `name`, which makes its samples itself."""
    if name not in _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown task {name!r}; known tasks: {', '.join(names())}.{hint}")
    module, _, attribute = _KNOWN[name].partition(":")
    made: Callable[..., Task] = getattr(importlib.import_module(module), attribute)
    return made
