"""The law that a strategy keeps nothing and writes nowhere, for every stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tokenprune.guards.watch import watched
from tokenprune.strategy import Condenser, VisionStage
from tokenprune.testing.cases import (
    OfFrames,
    OfKeys,
    OfPatches,
    OfRows,
    OfSteps,
    OfTokens,
)
from tokenprune.testing.law import LawBrokenError, law

Case = OfTokens | OfRows | OfSteps | OfFrames | OfKeys | OfPatches
Call = tuple[str, tuple[Any, ...]]  # a method, and what it is given


@law("no call changes its input, the instance or its class")
def stateless(strategy: Any, case: Case) -> None:
    for method, given in calls(strategy, case):
        called(strategy, method, given)


def called(strategy: Any, method: str, given: tuple[Any, ...]) -> Any:
    """What a method returns, if it has left everything as it was."""
    with watched(strategy, method, given) as harm:
        result = getattr(strategy, method)(*given)
    for did, rule in harm:
        raise LawBrokenError(f"{method} {did}: {rule}")
    return result


def calls(strategy: Any, case: Case) -> Iterator[Call]:
    """The calls of a stage in one case."""
    if isinstance(case, OfTokens) and isinstance(strategy, VisionStage):
        yield "quota", (case.tokens,)
        yield "compress", (case.tokens, strategy.quota(case.tokens))
    elif isinstance(case, OfTokens) and isinstance(strategy, Condenser):
        yield "condense", (case.tokens,)
    elif isinstance(case, OfRows):
        yield "quota", (case.view,)
        yield "prune", (case.view, strategy.quota(case.view))
    elif isinstance(case, OfSteps):
        yield "start", ()
        state = strategy.start()
        for view in case.steps:
            yield "attend", (view, state)
            state = strategy.attend(view, state)[1]
    elif isinstance(case, OfKeys):
        yield "removed", (case.layers, case.rows, case.first)
        yield "group", (case.keys, case.remove, case.first)
    elif isinstance(case, OfPatches):
        yield "taken", (case.patches,)
    elif isinstance(case, OfFrames):
        yield "weigh", (case.probe,)
