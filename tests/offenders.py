"""Strategies with something wrong in them, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import pytest
from torch import Tensor

from tokenprune import ops
from tokenprune.errors import StrategyError
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategy import Allocator, DecodeStage, PrefillStage, VisionStage
from tokenprune.tokens import VisualTokens

DOCS = " (docs/write-a-strategy.md)"


def refusal(action: Any, *arguments: Any) -> str:
    """The message of the StrategyError that calling `action` must raise."""
    with pytest.raises(StrategyError) as caught:
        action(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def half(tokens: VisualTokens, budget: Tensor) -> VisualTokens:
    return Uniform().compress(tokens, budget)


@dataclass(frozen=True)
class Mine(VisionStage):
    """Half of every frame, with something wrong in what it returns."""

    wrong: Callable[[Any, Any], Any] = half
    share: Callable[[Any], Any] = lambda tokens: ops.count(tokens.counts, 0.5)

    def quota(self, tokens: Any) -> Any:
        return self.share(tokens)

    def compress(self, tokens: Any, budget: Any) -> Any:
        return self.wrong(tokens, budget)


@dataclass(frozen=True)
class Pruner(PrefillStage):
    wrong: Callable[[Any], Any]
    layer: int = 2

    def quota(self, view: Any) -> Any:
        return view.counts - 1

    def prune(self, view: Any, budget: Any) -> Any:
        return self.wrong(view)


@dataclass(frozen=True)
class Hider(DecodeStage[Any]):
    wrong: Callable[[Any, Any], Any]
    begin: Callable[[], Any] = lambda: None
    layer: int = 2

    def start(self) -> Any:
        return self.begin()

    def attend(self, view: Any, state: Any) -> Any:
        return self.wrong(view, state)


@dataclass(frozen=True)
class Guide(Allocator):
    wrong: Callable[[Any], Any]

    def weigh(self, probe: Any) -> Any:
        return self.wrong(probe)


@dataclass(frozen=True)
class Keeper(VisionStage):
    """Half of every frame; `how` keeps something for the next sample."""

    how: Callable[[Any], None] = lambda self: None
    notes: list[int] = field(default_factory=list)
    count: ClassVar[int] = 0
    shared: ClassVar[list[int]] = []

    def quota(self, tokens: VisualTokens) -> Tensor:
        return ops.count(tokens.counts, 0.5)

    def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
        self.how(self)
        return half(tokens, budget)

    @cached_property
    def table(self) -> list[int]:
        return [1]
