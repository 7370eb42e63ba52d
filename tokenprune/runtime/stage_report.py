"""What one stage was asked to keep of a sample, and did; and what frames were weighed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from tokenprune.tokens import Video


class ProbeReport(NamedTuple):
    """How far an allocator's guide ran over a prompt before it was compressed.

    Args:
        layers: of its language model
        side: of the squares of tokens that it saw as one
        shared: whether the assistant took over what the model's own tower had made
    """

    layers: int = 0
    side: int = 1
    shared: bool = False

    def tokens(self, videos: Sequence[Video]) -> int:
        """Visual tokens that it read of these."""
        return sum(video.pooled(self.side).tokens for video in videos)


@dataclass(frozen=True)
class StageReport:
    """One stage on one sample; lists are per frame."""

    strategy: str
    layer: int | None  # LLM layer it acted before; None: at the LLM's input
    before: list[int]
    budget: list[int]
    after: list[int]
    condensed: bool = False  # whether the counts are its result, so that the budget is what it kept
    merged: bool = False  # whether a row that is left may stand for several tokens

    @classmethod
    def joined(cls, parts: Sequence[StageReport]) -> StageReport:
        """One stage on several videos of a sample."""
        before = [*chain(*(part.before for part in parts))]
        budget = [*chain(*(part.budget for part in parts))]
        after = [*chain(*(part.after for part in parts))]
        merged = any(part.merged for part in parts)
        first = parts[0]
        return cls(first.strategy, first.layer, before, budget, after, first.condensed, merged)

    @property
    def acted(self) -> bool:
        return self.before != self.after or self.merged
