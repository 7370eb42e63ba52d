"""What one stage was asked to keep of a sample, and did."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple


class TowerLayer(NamedTuple):
    """What a layer of the vision tower worked on, of all frames together; CLS rows count."""

    rows: int  # through norms and projections of the attention
    pairs: int  # of a query and a key
    fed: int  # through the feed-forward network


@dataclass(frozen=True)
class TowerShare:
    """What the layers of the vision tower worked on for the videos of one sample.

    `full`: rows of all frames, which each layer works on without a stage inside the tower.
    """

    layers: tuple[TowerLayer, ...]
    full: int

    def __add__(self, other: TowerShare) -> TowerShare:
        pairs = zip(self.layers, other.layers, strict=True)
        layers = (TowerLayer(*map(sum, zip(*pair, strict=True))) for pair in pairs)
        return TowerShare(tuple(layers), self.full + other.full)

    @property
    def ratio(self) -> float:
        """Fraction of the rows that layers worked on, mean over layers.

        Halfway between attention and feed-forward network where these differ.
        """
        worked = statistics.fmean((layer.rows + layer.fed) / 2 for layer in self.layers)
        return worked / self.full

    def as_dict(self) -> dict[str, Any]:
        """For `records.jsonl`."""
        rows = [layer.rows for layer in self.layers]
        return {"full": self.full, "rows_per_layer": rows, "ratio": self.ratio}


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
