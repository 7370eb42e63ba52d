"""What one stage was asked to keep of a sample, and did; and what frames were weighed by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


# of a sample: what one line of a table holds
FIGURES = (
    "full",
    "kept",
    "merged",
    "requested_ratio",
    "input_ratio",
    "layer_average_ratio",
    "decode_ratio",
    "decode_changes",
    "unseen_from",
)
# per frame: before a stage, its budget, after it
Counts = tuple[list[int], list[int], list[int]]


@dataclass(frozen=True)
class Done:
    """What one stage did to one video, while the device may still hold its figures.

    Args:
        strategy: its name
        layer: LLM layer it acted before; None: at the LLM's input
        counts: reads them
        condensed, merged: as in `StageReport`
    """

    strategy: str
    layer: int | None
    counts: Callable[[], Counts]
    condensed: bool = False
    merged: bool = False

    @property
    def report(self) -> StageReport:
        return StageReport(
            self.strategy, self.layer, *self.counts(), condensed=self.condensed, merged=self.merged
        )


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


def joined(stages: list[StageReport], done: Iterable[tuple[Done, ...]]) -> list[StageReport]:
    """`stages`, and those that have acted since, or for the first time."""
    for parts in done:
        report = StageReport.joined([part.report for part in parts])
        known = any(stage.strategy == report.strategy for stage in stages)
        if report.acted or not known:
            stages.append(report)
    return stages
