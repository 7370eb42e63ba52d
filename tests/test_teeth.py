"""The laws themselves: each breaks for a strategy that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from arbitrary import blank, draws, video
from laws import check_allocator, check_decode, check_prefill, check_vision
from torch import Tensor

from tokenprune import ops
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.uniform import Uniform
from tokenprune.strategy import Allocator, DecodeStage, PrefillStage, VisionStage
from tokenprune.testing.equal import copied
from tokenprune.testing.inputs import TableProbe, later
from tokenprune.tokens import TEXT, LastRow, SequenceView, VisualTokens

TOKENS = video(draws(1, 3 * 8, 4), 8, draws(2, 24).abs(), draws(3, 24, 2))
BUDGET = torch.tensor([2, 5, 1])
VIEW = SequenceView(
    torch.tensor([TEXT, 0, 0, 0, 1, 1, TEXT]), torch.arange(7), draws(4, 7).softmax(0)
)
STEPS = [later(VIEW, step, draws(5 + step, 7 + step).softmax(0)) for step in range(3)]
OTHERS = [later(VIEW, step, draws(9 + step, 7 + step).softmax(0)) for step in range(2)]


@dataclass(frozen=True)
class Vision(VisionStage):
    """Uniform, with something wrong in what it returns."""

    wrong: Callable[[VisualTokens, VisualTokens], VisualTokens]

    def quota(self, tokens: VisualTokens) -> Tensor:
        return tokens.counts // 2

    def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
        return self.wrong(tokens, Uniform().compress(tokens, budget))


@dataclass(frozen=True)
class Prefill(PrefillStage):
    wrong: Callable[[SequenceView, Tensor], Tensor]
    layer: int = 2

    def quota(self, view: SequenceView) -> Tensor:
        return FastV().quota(view)

    def prune(self, view: SequenceView, budget: Tensor) -> Tensor:
        return self.wrong(view, FastV().prune(view, budget))


@dataclass(frozen=True)
class Decode(DecodeStage[Any]):
    wrong: Callable[[SequenceView, Any], tuple[Tensor, Any]]
    layer: int = 2

    def start(self) -> Any:
        return None

    def attend(self, view: SequenceView, state: Any) -> tuple[Tensor, Any]:
        return self.wrong(view, state)


@dataclass(frozen=True)
class Weights(Allocator):
    wrong: Callable[[Any], Tensor]

    def weigh(self, probe: Any) -> Tensor:
        return self.wrong(probe)


def leaking() -> Callable[[SequenceView, Any], tuple[Tensor, Any]]:
    seen: list[int] = []

    def attend(view: SequenceView, state: Any) -> tuple[Tensor, Any]:
        seen.append(1)
        return ~view.visual | (view.position % 2 == len(seen) % 2), state

    return attend


def brightest(tokens: VisualTokens, kept: VisualTokens) -> VisualTokens:
    """The tokens of every frame rolled by what the whole video looks like."""
    shift = int(tokens.features.argmax()) % tokens.cells
    full = (tokens.slot - shift) % tokens.cells
    return tokens[ops.keep_top(-full.unflatten(0, (3, 8)).float(), kept.counts).flatten()]


def swayed(view: SequenceView, kept: Tensor) -> Tensor:
    """The most or the least attended rows of all frames, as one row of frame 1 says."""
    sign = 1 if view.attention[4] < 0.5 else -1
    budget = torch.bincount(view.frame[kept & view.visual], minlength=view.frames)
    return FastV().prune(replace(view, attention=sign * view.attention), budget)


VISION = [
    lambda tokens, kept: tokens,  # not the budget
    lambda tokens, kept: kept[torch.arange(len(kept)).flip(0)],  # frames backwards
    lambda tokens, kept: kept.with_features(kept.features + 1),  # full budget changes tokens
    # frames mix in the values
    lambda tokens, kept: kept.with_features(kept.features - kept.features.mean()),
    lambda tokens, kept: kept.with_features(torch.rand_like(kept.features)),  # not deterministic
    brightest,  # frames mix in the choice
    # a slot twice
    lambda tokens, kept: kept[torch.arange(len(kept)).clamp(min=1)] if len(kept) > 1 else kept,
    lambda tokens, kept: replace(kept, slot=kept.slot + tokens.cells),  # slots that never were
    lambda tokens, kept: kept.with_features(kept.features * torch.nan),
    lambda tokens, kept: replace(kept, features=kept.features.double()),  # another dtype
    lambda tokens, kept: (tokens.features.add_(1), kept)[1],  # writes into its input
]


@pytest.mark.parametrize("wrong", VISION)
def test_vision_laws(wrong: Any) -> None:
    tokens = copied(TOKENS)
    check_vision(Vision(lambda tokens, kept: kept), tokens, BUDGET, disturbed=1)
    with pytest.raises(AssertionError):
        check_vision(Vision(wrong), tokens, BUDGET, disturbed=1)


@pytest.mark.parametrize(
    "share", [lambda tokens: tokens.counts / 2, lambda tokens: tokens.counts > 4]
)
def test_a_quota_is_whole_numbers(share: Any) -> None:
    class Odd(Vision):
        def quota(self, tokens: VisualTokens) -> Tensor:
            return share(tokens)

    with pytest.raises(AssertionError):
        check_vision(Odd(lambda tokens, kept: kept), TOKENS, BUDGET)


def test_declared_sources_are_allowed() -> None:
    check_vision(Vision(brightest), TOKENS, BUDGET, disturbed=1, sources=lambda frame: {0, 1, 2})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda view, kept: kept & view.visual,  # drops text
        lambda view, kept: kept | (view.position == 1),  # not the budget
        lambda view, kept: swayed(view, kept),  # frames mix
    ],
)
def test_prefill_laws(wrong: Any) -> None:
    check_prefill(Prefill(lambda view, kept: kept), VIEW, torch.tensor([1, 1]), disturbed=1)
    with pytest.raises(AssertionError):
        check_prefill(Prefill(wrong), VIEW, torch.tensor([1, 1]), disturbed=1)


def test_decode_laws() -> None:
    check_decode(Decode(lambda view, state: (~view.visual, state)), STEPS, OTHERS)
    for wrong in (leaking(), lambda view, state: (view.visual, state)):
        with pytest.raises(AssertionError):
            check_decode(Decode(wrong), STEPS, OTHERS)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda probe: torch.arange(1.0, probe.frames + 1),  # by place, not by content
        lambda probe: torch.ones(probe.frames + 1),  # not one per frame
        lambda probe: -torch.ones(probe.frames),
        # one head decides
        lambda probe: probe.last_row([0]).queries[0, 0, 0].expand(probe.frames).abs(),
    ],
)
def test_allocator_laws(wrong: Any) -> None:
    rows = LastRow(draws(1, 2, 4, 3), draws(2, 2, 2, 12, 3))
    probe, host, seen = (
        TableProbe(rows, torch.arange(3).repeat_interleave(4), 3),
        Uniform(keep=0.5),
        blank(3, 8),
    )
    check_allocator(Weights(lambda probe: torch.ones(probe.frames)), probe, host, seen)
    with pytest.raises(AssertionError):
        check_allocator(Weights(wrong), probe, host, seen)
