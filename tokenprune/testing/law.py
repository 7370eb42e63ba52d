"""What a law is, and what comes of holding something to it.

A law is a function of the thing and one case that says what is broken. It imports no test runner:
`holds` raises, whatever Python's switches do to `assert`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from tokenprune.errors import TokenpruneError

Thing = TypeVar("Thing")
Case = TypeVar("Case")
State = Literal["passed", "failed", "not applicable"]


class LawBrokenError(AssertionError):
    """One law that does not hold, in words."""


class NotApplicableError(Exception):
    """A law that says nothing about this thing, and why."""


def holds(true: Any, said: str) -> None:
    """Raises LawBrokenError unless `true`."""
    if not bool(true):
        raise LawBrokenError(said)


def applies(true: Any, reason: str) -> None:
    """Raises NotApplicableError, with the reason, unless `true`."""
    if not bool(true):
        raise NotApplicableError(reason)


@dataclass(frozen=True)
class Law(Generic[Thing, Case]):
    """One law.

    Args:
        name: in a word or two, as the report has it
        says: the law in a sentence
        check: raises LawBrokenError, or NotApplicableError where it says nothing about a case
    """

    name: str
    says: str
    check: Callable[[Thing, Case], None]


def law(says: str) -> Callable[[Callable[[Any, Any], None]], Law[Any, Any]]:
    """Makes a law of a function, whose name becomes its own."""

    def make(check: Callable[[Any, Any], None]) -> Law[Any, Any]:
        return Law(check.__name__.strip("_").replace("_", " "), says, check)

    return make


@dataclass(frozen=True)
class Finding:
    """What came of one law.

    Args:
        group: what it was tried on: `VisionStage`, `toy model`
        law: its name
        says: the law in a sentence
        state: passed, failed, or not applicable
        said: what is broken, or why it does not apply
        held: in how many cases it held
        error: what was raised, where something was
    """

    group: str
    law: str
    says: str
    state: State
    said: str = ""
    held: int = 0
    error: BaseException | None = field(default=None, compare=False, repr=False)


def tried(group: str, one: Law[Any, Any], thing: Any, cases: Iterable[Any]) -> Finding:
    """Holds `thing` to a law in every case, up to the first that breaks it.

    A case that it refuses in words for the user (TokenpruneError) says nothing about it. Whatever
    else it raises breaks the law.
    """
    held, reasons = 0, Counter[str]()
    for case in cases:
        try:
            one.check(thing, case)
        except NotApplicableError as reason:
            reasons[str(reason)] += 1
        except TokenpruneError as refusal:
            reasons[f"refuses the input: {refusal}"] += 1
        except Exception as error:
            said = told(error, thing)
            return Finding(group, one.name, one.says, "failed", said, held, error)
        else:
            held += 1
    often = reasons.most_common(1)
    if held:
        said = f"beside {reasons.total()} where it {often[0][0]}" if often else ""
        return Finding(group, one.name, one.says, "passed", said, held)
    why = often[0][0] if often else "there is no case"
    return Finding(group, one.name, one.says, "not applicable", why)


def told(error: BaseException, thing: Any) -> str:
    """A broken law in its words; any other exception by its type, and the last line of the thing's
    own file on the way to it.
    """
    if isinstance(error, LawBrokenError):
        return str(error)
    files = {
        code.co_filename
        for value in vars(type(thing)).values()
        if (code := getattr(value, "__code__", None)) is not None
    }
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename in files]
    where = f" in line {steps[-1].lineno}" if steps else ""
    return f"raised {type(error).__name__}{where}: {' '.join(str(error).split())}"


def keeps(laws: Iterable[Law[Any, Any]], thing: Any, case: Any) -> None:
    """Raises LawBrokenError for the first of some laws that `thing` breaks in a case.

    An exception of its own passes as it is.
    """
    for one in laws:
        try:
            one.check(thing, case)
        except NotApplicableError:
            continue
