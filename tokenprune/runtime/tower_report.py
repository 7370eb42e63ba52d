"""What the layers of the vision tower worked on under a stage inside it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
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
