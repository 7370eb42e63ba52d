"""The laws of `tokenprune.testing`, a case at a time, for cases that hypothesis draws.

Each takes a strategy and an arbitrary input, and raises AssertionError where a law is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tokenprune.strategy import (
    Allocator,
    Condenser,
    DecodeStage,
    PrefillStage,
    TowerMerger,
    TowerReuser,
    VisionStage,
)
from tokenprune.testing.allocate import ALLOCATE
from tokenprune.testing.cases import OfFrames, OfRows, OfSteps, OfTokens, Sources, alone
from tokenprune.testing.decode import DECODE
from tokenprune.testing.inputs import TableProbe
from tokenprune.testing.law import keeps
from tokenprune.testing.prefill import PREFILL
from tokenprune.testing.state import stateless
from tokenprune.testing.tower import MERGE, REUSE, keys_of, patches_of
from tokenprune.testing.vision import CONDENSE, VISION
from tokenprune.tokens import SequenceView, VisualTokens


def check_vision(
    strategy: VisionStage,
    tokens: VisualTokens,
    budget: Tensor,
    disturbed: int = 0,
    sources: Sources | None = alone,
    adaptive: bool = False,
) -> None:
    """At the strategy's own quota, at `budget`, and at full budget.

    Frame `disturbed` gets other contents, which only the frames with it among their `sources` may
    notice; None: any, if its `mixes_frames` says so. A full budget is the identity where it was
    asked for: an `adaptive` rule that arrives at all tokens of a frame may merge them.
    """
    keeps((*VISION, stateless), strategy, OfTokens(tokens, budget, disturbed, sources, adaptive))


def check_condense(strategy: Condenser, tokens: VisualTokens, disturbed: int = 0) -> None:
    keeps((*CONDENSE, stateless), strategy, OfTokens(tokens, tokens.counts, disturbed))


def check_prefill(
    strategy: PrefillStage, view: SequenceView, budget: Tensor, disturbed: int = 0
) -> None:
    """At the strategy's own quota, at `budget`, and at full budget."""
    keeps((*PREFILL, stateless), strategy, OfRows(view, budget, disturbed))


def check_decode(
    strategy: DecodeStage[Any], steps: Sequence[SequenceView], others: Sequence[SequenceView]
) -> None:
    """On the steps of two samples."""
    keeps((*DECODE, stateless), strategy, OfSteps((*steps,), (*others,)))


def check_allocator(
    strategy: Allocator,
    probe: TableProbe,
    host: VisionStage | PrefillStage,
    seen: VisualTokens | SequenceView,
) -> None:
    """One weight per frame whatever the order of frames and heads, and the host's total."""
    keeps((*ALLOCATE, stateless), strategy, OfFrames(probe, host, seen))


def check_merger(strategy: TowerMerger, seed: int, shape: tuple[int, int, int]) -> None:
    """On keys of some frames, rows and widths."""
    keeps((*MERGE, stateless), strategy, keys_of(seed, shape))


def check_reuser(strategy: TowerReuser, seed: int, shape: tuple[int, int, int]) -> None:
    """On patches of some frames, of which some stand still."""
    keeps((*REUSE, stateless), strategy, patches_of(seed, shape))
