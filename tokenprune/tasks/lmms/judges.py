"""Models that judge answers for a task of lmms-eval: which tasks ask one, who it is, and whether it
answered.

lmms-eval takes the judge from the variable MODEL_VERSION, else one of its own, whatever a task's
file says, and scores a call that failed as 0 or "no". Here a judge has to be named, and a failed
call is an error.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

from tokenprune.errors import JudgeError, LmmsError
from tokenprune.tasks.lmms.figures import submits

OWN = "task"  # the judge that a task's own code names
VARIABLE = "MODEL_VERSION"
_SERVICES = re.compile(r"requests|openai|anthropic|llm_judge|API_KEY|MODEL_VERSION", re.IGNORECASE)
_KEYS = {"openai": ("OPENAI_API_KEY",), "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY")}
_TRIES = 3  # besides those that a task makes itself
Result = TypeVar("Result")


def check(name: str, judge: str | None, asking: Sequence[tuple[str, Any]]) -> None:
    """Whether the tasks `asking`, which ask a judge, may. Raises LmmsError."""
    if not asking:
        if judge is not None:
            raise LmmsError(
                f"judge={judge} is for tasks whose answers a model judges, and {name} has none: "
                "leave it out"
            )
        return
    first = asking[0][0]
    if judge is None:
        raise LmmsError(
            f"{first} asks a model to judge the answers, and who it is decides the score: write "
            f"judge=NAME, as in judge=gpt-4o-mini, or choose another task"
        )
    if judge != OWN and (fixed := [name for name, task in asking if not _takes_a_name(task)]):
        raise LmmsError(
            f"{fixed[0]} names its judge in its own code, and judge={judge} would not reach it: "
            f"write judge={OWN} to take that one"
        )
    kind = os.environ.get("API_TYPE", "openai").lower()
    keys = _KEYS.get(kind, ())
    if keys and not any(os.environ.get(key) for key in keys):
        raise LmmsError(f"judge={judge} needs a key: set {keys[0]} in the environment")


@contextmanager
def called(judge: str | None) -> Iterator[None]:
    """The judge's name where lmms-eval looks for it, while its code is loaded and asked.

    Raises LmmsError where it is another one already.
    """
    before = os.environ.get(VARIABLE)
    if judge in (None, OWN) or before == judge:
        yield
        return
    if before is not None:
        raise LmmsError(
            f"judge={judge} and {VARIABLE}={before} name two judges: write judge={before}, or "
            f"unset {VARIABLE}"
        )
    os.environ[VARIABLE] = str(judge)
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def insisted(ask: Callable[[], Result], about: str) -> Result:
    """What `ask` gives once the judge has answered it without a complaint in lmms-eval's log.

    Raises JudgeError.
    """
    reason = ""
    for _ in range(_TRIES):
        with _complaints() as complaints:
            try:
                found = ask()
            except LmmsError as error:
                complaints.append(str(error))
            else:
                if not complaints:
                    return found
        reason = " ".join(complaints[-1].split())
    raise JudgeError(f"the judge has no verdict on {about}: {reason}")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What lmms-eval logs as errors: what it scores a failed call with does not tell it."""
    from loguru import logger  # pyright: ignore[reportMissingImports]

    said: list[str] = []
    sink = logger.add(lambda line: said.append(line.record["message"]), level="ERROR")
    try:
        yield said
    finally:
        logger.remove(sink)


def asks(task: Any) -> bool:
    """Whether what scores an answer of a task of lmms-eval can reach a model behind a network."""
    return any(_SERVICES.search(name) for part in _parts(task).items() for name in _names(*part))


def _takes_a_name(task: Any) -> bool:
    files = {Path(inspect.getfile(part)) for part in _parts(task)}
    return any(VARIABLE in file.read_text(encoding="utf-8") for file in files) or any(
        "llm_judge" in name for part in _parts(task).items() for name in _names(*part)
    )


def _parts(task: Any) -> dict[FunctionType, type]:
    """Functions that score an answer, and those that they call, without libraries; and the class
    that each was found in, or came from.
    """
    found: dict[FunctionType, type] = {}
    first = [task.config.process_results, type(task).__dict__.get("process_results")]
    first += [one for one in task.aggregation().values() if not submits(one)]
    waiting = [(one, type(task)) for one in first]
    while waiting:
        one, owner = waiting.pop()
        if isinstance(one, functools.partial):
            one = one.func
        if not isinstance(one, FunctionType) or one in found or _of_a_library(one):
            continue
        found[one] = owner
        names = set(_referred(one.__code__))
        values = [one.__globals__.get(name) for name in names]
        kinds = {owner, *(value if isinstance(value, type) else type(value) for value in values)}
        waiting += [(value, owner) for value in values]
        waiting += [(vars(kind)[name], kind) for kind in kinds for name in names & {*vars(kind)}]
    return found


def _referred(code: CodeType) -> Iterator[str]:
    """Names that code refers to, also inside its comprehensions and lambdas."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _referred(inner)


def _of_a_library(function: FunctionType) -> bool:
    """Neither lmms-eval's, nor ours, nor a task's."""
    file = function.__code__.co_filename
    stock = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")]
    packages = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    if {"lmms_eval", "tokenprune"} & {*Path(file).parts}:
        return False
    return any(Path(file).is_relative_to(home) for home in (*packages, *stock))


def _names(function: FunctionType, owner: type) -> Iterator[str]:
    """What a function refers to: globals and fields of its class by name, and where they are
    from.
    """
    for name in _referred(function.__code__):
        yield name
        value = function.__globals__.get(name, vars(owner).get(name))
        if isinstance(value, ModuleType):
            yield value.__name__
        elif value is not None:
            yield str(getattr(value, "__module__", ""))  # of a class or a function, or its type's
