"""Tasks by name. A task is one file of this folder and one line of `_KNOWN`; its module is imported on first use."""

from __future__ import annotations

import difflib
import importlib

from tokenprune.tasks.base import Sample, Task

__all__ = ["Sample", "Task", "build", "names"]

_KNOWN = {"tinyvqa": "tokenprune.tasks.tinyvqa:TinyVQA"}


def names() -> list[str]:
    """Names that `build` understands."""
    return sorted(_KNOWN)


def build(name: str, *, samples: int | None, frames: int, seed: int) -> Task:
    """The task `name` with `samples` samples (None: as many as it has by default) of `frames` frames each."""
    if name not in _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown task {name!r}; known tasks: {', '.join(names())}.{hint}")
    module, _, attribute = _KNOWN[name].partition(":")
    task: Task = getattr(importlib.import_module(module), attribute)(samples=samples, frames=frames, seed=seed)
    return task
