"""ToMe: similar patches of a frame are merged inside the vision tower, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from tokenprune.errors import StrategyError
from tokenprune.strategy import TowerMerger


def schedule(layers: int, r: int, inflection: float = 0.0) -> tuple[int, ...]:
    """Rows that each layer merges away: `r` on average, from `r (1 - inflection)` on in a line."""
    low = int(r * (1.0 - inflection))
    high = 2 * r - low
    return tuple(int(low + (high - low) * layer / max(1, layers - 1)) for layer in range(layers))


def match(metric: Float[Tensor, "i n k"], remove: int, first: int = 0) -> Int[Tensor, "i n"]:
    """The group of every row: rows of even places join the most similar one of an odd place.

    Of the rows in even places only the `remove` most similar do, at most half of all; the others
    come first, by falling similarity (by place behind a CLS row, so that it stays first), then all
    odd ones. `first` rows never join. Ties go to the lower place.
    """
    rows = metric.shape[1]
    remove = min(remove, (rows - first) // 2)
    unit = normalize(metric, dim=-1)
    best, joined = (unit[:, ::2] @ unit[:, 1::2].mT).max(-1)
    if first:
        best = torch.cat([torch.full_like(best[:, :1], -torch.inf), best[:, 1:]], dim=1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    merged, alone = order.split([remove, order.shape[1] - remove], dim=1)
    if first:
        alone = alone.sort(dim=-1).values
    left = alone.shape[1]
    number = torch.arange(left, device=metric.device).expand_as(alone)
    even = torch.empty_like(order).scatter_(1, alone, number)
    even.scatter_(1, merged, joined.gather(1, merged) + left)
    odd = torch.arange(left, rows - remove, device=metric.device).expand(len(metric), -1)
    group = metric.new_empty(metric.shape[:2], dtype=torch.long)
    group[:, ::2], group[:, 1::2] = even, odd
    return group


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
