"""Tasks by name. A task is one file of this folder and one line of `_KNOWN`; its module is imported
on first use.

`files:PATH` is the task of an annotations file, `lmms:NAME` one of lmms-eval.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable

from tokenprune.errors import TaskError
from tokenprune.tasks.base import Label, Sample, Task

__all__ = ["Label", "Sample", "Task", "build", "kind", "names"]

_KNOWN = {"tinyvqa": "tokenprune.tasks.tinyvqa:TinyVQA"}
_FILES, _LMMS = "files:", "lmms:"


def names() -> list[str]:
    """Tasks that make their samples themselves."""
    return sorted(_KNOWN)


def build(
    name: str,
    *,
    samples: int | None,
    frames: int,
    seed: int,
    include_path: str | None = None,
    sampling: str = "index",
) -> Task:
    """The task `name` with `samples` samples (None: as many as it has by default) of `frames`
    frames each.

    `sampling` is how the frames of a video file are chosen, see `video.read_clip`; `include_path`
    a folder of lmms-eval tasks besides its own. Raises TaskError.
    """
    if include_path is not None and not name.startswith(_LMMS):
        raise TaskError(
            f"include_path= is a folder of lmms-eval tasks, and {name} is none: write {_LMMS}NAME"
        )
    if not name.startswith((_FILES, _LMMS)):
        if name not in _KNOWN:
            raise TaskError(f"unknown task {name!r}: {_instead(name)}")
        if sampling != "index":
            raise TaskError(
                f"{name} draws its frames itself, evenly in time: leave sampling={sampling} out"
            )
        return kind(name)(samples=samples, frames=frames, seed=seed)
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

        return LmmsTask(
            name.removeprefix(_LMMS),
            frames=frames,
            include_path=include_path,
            sampling=sampling,
            seed=seed,
        )
    from tokenprune.tasks.files import Files

    return Files(name.removeprefix(_FILES), frames=frames, sampling=sampling)


def _instead(name: str) -> str:
    """What to write where no task is called `name`."""
    before, colon, rest = name.partition(":")
    if name.endswith((".json", ".jsonl", ".ndjson")) and not colon:
        return f"for an annotations file write {_FILES}{name}"
    if near := difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    if colon and (
        near := difflib.get_close_matches(f"{before.lower()}:", (_FILES, _LMMS), n=1, cutoff=0.5)
    ):
        return f"did you mean {near[0]}{rest}?"
    bare = rest or name.rpartition("/")[2]
    return (
        f"write {', '.join(names())}, {_FILES}PATH of an annotations file, or {_LMMS}NAME of a "
        "task of lmms-eval, "
        f"as in task={_LMMS}{bare}"
    )


def kind(name: str) -> Callable[..., Task]:
    """The class of the task `name`, which makes its samples itself."""
    if name not in _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise TaskError(f"unknown task {name!r}; known tasks: {', '.join(names())}.{hint}")
    module, _, attribute = _KNOWN[name].partition(":")
    made: Callable[..., Task] = getattr(importlib.import_module(module), attribute)
    return made
