"""Whose defect it is: calls into strategies, and an author's bug cut down to the author's part."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from tokenprune.errors import TokenpruneError

_TRACE = "_tokenprune_trace"  # of an exception that comes from another process
_FRAMES = 20  # shown at most, the last ones: enough for any bug but a recursion


def foreign(kind: type) -> bool:
    """Whether a class is a third party's.

    The laws in the tests hold the built-in ones to their contract.
    """
    return not kind.__module__.startswith("tokenprune.")


def home(kind: type, method: str | None = None) -> str:
    """The name of the file that holds a class, or one of its methods.

    That of its module where there is no file.
    """
    file = _file(kind, method)
    return kind.__module__ if file is None else Path(file).name


def call(
    kind: type, method: str, action: Callable[..., Any], *arguments: Any, sample: int | None = None
) -> Any:
    """What `action`, a method of a strategy class, returns.

    An exception that speaks to the user passes as it is. Any other one of a third party's class is
    its author's bug: it keeps its type, so that whoever called `generate` can handle it, and gets a
    note that says whose it is.
    """
    try:
        return action(*arguments)
    except TokenpruneError:
        raise
    except Exception as error:
        if foreign(kind):
            where = "" if sample is None else f", row {sample} of the batch"
            what = f"{kind.__name__}.{method} raised {type(error).__name__}{where}"
            error.add_note(
                f"{home(kind, method)}: {what}: mend it there, tokenprune only called it"
            )
        raise


@contextmanager
def asking(samples: list[str]) -> Iterator[None]:
    """Notes on an exception which samples the model was answering."""
    try:
        yield
    except Exception as error:
        error.add_note(f"it happened at sample {' or '.join(samples)}")
        raise


def shortened(error: BaseException) -> str | None:
    """The traceback of an author's bug from the author's first frame on, without notes.

    None for other exceptions.
    """
    if (trace := vars(error).get(_TRACE)) is not None:
        return trace
    entry = _entry(error.__traceback__)
    if entry is None or isinstance(error, TokenpruneError):
        return None
    file = _file(entry.tb_frame.f_locals["kind"], entry.tb_frame.f_locals["method"])
    theirs = (step for step in _steps(entry.tb_next) if step.tb_frame.f_code.co_filename == file)
    first = next(theirs, entry.tb_next)
    shown = traceback.TracebackException(type(error), error, first, limit=-_FRAMES, compact=True)
    # they are told after it, in one line
    shown.__notes__ = None  # pyright: ignore[reportAttributeAccessIssue]
    return "".join(shown.format()).rstrip()


@contextmanager
def travelling() -> Iterator[None]:
    """Lets an author's bug keep its cut traceback on the way to another process.

    An exception has none there.
    """
    try:
        yield
    except Exception as error:
        if (trace := shortened(error)) is not None:
            vars(error)[_TRACE] = trace
        raise


def line(error: BaseException, kind: type, method: str) -> int | None:
    """The line at which the file of a class's method was when `error` came up."""
    file = _file(kind, method)
    lines = [
        step.tb_lineno
        for step in _steps(error.__traceback__)
        if step.tb_frame.f_code.co_filename == file
    ]
    return lines[-1] if lines else None


def _file(kind: type, method: str | None) -> str | None:
    """Where the code is, if it is in a file.

    A class may inherit its method, or be made by a function elsewhere.
    """
    known = vars(kind).values() if method is None else [getattr(kind, method, None)]
    for function in filter(inspect.isfunction, known):
        file = inspect.unwrap(function).__code__.co_filename
        if Path(file).is_file():
            return file
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _steps(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _entry(trace: TracebackType | None) -> TracebackType | None:
    """Where `call` went into a third party's class, the last time if several."""
    found = None
    for step in _steps(trace):
        frame = step.tb_frame
        here = frame.f_code.co_filename == __file__ and frame.f_code.co_name == "call"
        if here and "kind" in frame.f_locals and foreign(frame.f_locals["kind"]):
            found = step
    return found
