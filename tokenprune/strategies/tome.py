"""ToMe: similar patches of a frame are merged inside the vision tower, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.bipartite import match
from tokenprune.errors import StrategyError
from tokenprune.strategy import TowerMerger


def schedule(layers: int, r: int, inflection: float = 0.0) -> tuple[int, ...]:
    """Rows that each layer merges away: `r` on average, from `r (1 - inflection)` on in a line."""
    low = int(r * (1.0 - inflection))
    high = 2 * r - low
    return tuple(int(low + (high - low) * layer / max(1, layers - 1)) for layer in range(layers))


@dataclass(frozen=True)
class ToMe(TowerMerger, name="tome"):
    """Token Merging: Your ViT But Faster (Bolya et al., ICLR 2023), https://arxiv.org/abs/2210.09461

    The paper's own form, inside the tower: the language model gets as many tokens as ever, made in
    less time. Video papers that compare with "ToMe" merge behind the tower: that is `tome_vision`.

    Args:
        r: rows of a frame that each tower layer merges away
        inflection: -1 begins with 2 r and ends with 0 (the paper's decreasing schedule), 0 is r
            everywhere, 1 begins with 0
        proportional: a merged row counts in attention as often as it has patches
    """

    r: int = 8
    inflection: float = 0.0
    proportional: bool = True

    def __post_init__(self) -> None:
        if self.r < 0:
            raise StrategyError(f"tome.r={self.r} merges less than nothing: write 0 or more")
        if not -1.0 <= self.inflection <= 1.0:
            raise StrategyError(f"tome.inflection={self.inflection} is outside -1 to 1")

    def removed(self, layers: int, rows: int, first: int) -> tuple[int, ...]:
        """StrategyError where a layer would have to merge more than half of its rows."""
        wanted, left = schedule(layers, self.r, self.inflection), rows
        for layer, number in enumerate(wanted):
            if number > (left - first) // 2:
                raise StrategyError(
                    f"tome.r={self.r} merges {number} of {left} rows in tower layer {layer}, and "
                    "at most half can join the others: write a smaller r"
                )
            left -= number
        return wanted

    def group(self, keys: Float[Tensor, "i n k"], remove: int, first: int) -> Int[Tensor, "i n"]:
        return match(keys, remove, first)
