"""Tasks by name: `base.Task` says how one is declared and built.

A named one is a file of this folder, an installed package's (entry points of the group
`tokenprune.tasks`), or a plug-in's.

`files:PATH` is the task of an annotations file, `lmms:NAME` one of lmms-eval.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from tokenprune.errors import TaskError
from tokenprune.lookup import TASKS
from tokenprune.tasks.base import Label, Sample, Task

__all__ = ["Label", "Sample", "Task", "build", "draws", "kind", "names"]

_FILES, _LMMS = "files:", "lmms:"
_USUAL = {"sampling": "index", "short": "once"}


def names() -> list[str]:
    """Named tasks, sorted."""
    return TASKS.names()


def kind(name: str) -> type[Task]:
    """The class of the task `name`; TaskError lists the known ones and the nearest."""
    return TASKS.find(name)


def draws(name: str) -> bool:
    """Whether a task makes its videos itself, evenly in time, rather than reading files."""
    return name in TASKS and not takes(kind(name), "sampling")


def takes(made: type[Task], argument: str) -> bool:
    """Whether a task can be built with `argument`."""
    return argument in inspect.signature(made).parameters


def build(
    name: str,
    *,
    samples: int | None,
    frames: int,
    seed: int,
    include_path: str | None = None,
    sampling: str = "index",
    short: str = "once",
    judge: str | None = None,
) -> Task:
    """The task `name` with `samples` samples (None: as many as it has by default) of `frames`
    frames each.

    `sampling` and `short` are how the frames of a video file are chosen, see `video.read_clip`;
    `include_path` a folder of lmms-eval tasks besides its own, and `judge` the model that judges
    answers of those that ask one. Raises TaskError.
    """
    if judge is not None and not name.startswith(_LMMS):
        raise TaskError(f"judge= is for tasks of lmms-eval, and {name} asks none: leave it out")
    if include_path is not None and not name.startswith(_LMMS):
        raise TaskError(
            f"include_path= is a folder of lmms-eval tasks, and {name} is not one: write "
            f"{_LMMS}NAME"
        )
    if not name.startswith((_FILES, _LMMS)):
        settings = {"samples": samples, "frames": frames, "seed": seed}
        return _named(name, settings, {"sampling": sampling, "short": short})
    if name in (_FILES, _LMMS):
        raise TaskError(f"task={name} names nothing: write {_FILES}PATH or {_LMMS}NAME")
    if samples is not None:
        holder = "a file" if name.startswith(_FILES) else "lmms-eval"
        raise TaskError(
            f"samples= is for tasks that make samples, and {holder} has its own: write limit= to "
            "use fewer"
        )
    if name.startswith(_LMMS):
        from tokenprune.tasks.lmms.task import LmmsTask

        inner = name.removeprefix(_LMMS)
        return LmmsTask(
            inner,
            frames=frames,
            include_path=include_path,
            sampling=sampling,
            short=short,
            judge=judge,
            seed=seed,
        )
    from tokenprune.tasks.files import Files

    return Files(name.removeprefix(_FILES), frames=frames, sampling=sampling, short=short)


def _named(name: str, settings: dict[str, Any], spread: dict[str, str]) -> Task:
    """A task that registers its name; `spread` is how frames of a file are chosen."""
    if name not in TASKS:
        TASKS.refuse_broken(name)
        raise TaskError(f"unknown task {name!r}: {_instead(name)}")
    made = kind(name)
    for key, value in spread.items():
        if takes(made, key):
            settings[key] = value
        elif value != _USUAL[key]:
            why = "draws its frames itself, evenly in time"
            if takes(made, "sampling"):
                why = f"takes no {key}="
            raise TaskError(f"{name} {why}: leave {key}={value} out")
    return made(**settings)


def _instead(name: str) -> str:
    """What to write where no task is called `name`."""
    before, colon, rest = name.partition(":")
    if name.endswith((".json", ".jsonl", ".ndjson")) and not colon:
        return f"for an annotations file write {_FILES}{name}"
    if near := difflib.get_close_matches(name, names(), n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    if colon and (
        near := difflib.get_close_matches(f"{before.lower()}:", (_FILES, _LMMS), n=1, cutoff=0.5)
    ):
        return f"did you mean {near[0]}{rest}?"
    bare = rest or name.rpartition("/")[2]
    return (
        f"write {', '.join(names())}, {_FILES}PATH of an annotations file, or {_LMMS}NAME of a "
        f"task of lmms-eval, as in task={_LMMS}{bare}"
    )
