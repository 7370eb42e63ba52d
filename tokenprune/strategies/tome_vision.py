"""ToMe behind the tower: a frame's tokens are merged pairwise until its budget is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import bipartite, hosted, merging, ops, ragged
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens


class Round(NamedTuple):
    """Rows of every frame before a round and behind it, as numbers of the host."""

    before: Sequence[int]
    behind: Sequence[int]


def rounds(counts: Sequence[int], budget: Sequence[int]) -> list[Round]:
    """A round merges half of a frame's rows at most, and the last one what is left to merge.

    Down to one row of a frame; a budget of none drops that, too.
    """
    found: list[Round] = []
    goal = [max(1, most) for most in budget]
    while any(now > end for now, end in zip(counts, goal, strict=True)):
        pairs = zip(counts, goal, strict=True)
        behind = [max(now - now // 2, min(now, end)) for now, end in pairs]
        found.append(Round(counts, behind))
        counts = behind
    return found


def merged(keys: Float[Tensor, "f m k"], plan: Sequence[Round]) -> Int[Tensor, "f m"]:
    """Of every row of a frame the row of it whose place the group has that it ends in.

    Keys are merged like features, weighted with how many rows each stands for. Rows that are none
    have keys of zeros.
    """
    frames, width = keys.shape[:2]
    group = place = torch.arange(width, device=keys.device).expand(frames, width)
    sizes = torch.ones(frames, width, device=keys.device)
    for before, behind in plan:
        joins, owner = bipartite.match_some(keys, before, behind)
        group, place = joins.gather(1, group), place.gather(1, owner)
        sums = sizes.new_zeros(owner.shape).scatter_add_(1, joins, sizes)
        weighed = keys * (sizes / sums.gather(1, joins)).unsqueeze(-1)
        to, sizes = joins.unsqueeze(-1).expand_as(keys), sums
        keys = keys.new_zeros(*owner.shape, keys.shape[-1]).scatter_add_(1, to, weighed)
    return place.gather(1, group)


@dataclass(frozen=True)
class ToMeVision(VisionStage, TowerReader, Adjustable, name="tome_vision"):
    """Token Merging: Your ViT But Faster (Bolya et al., ICLR 2023), https://arxiv.org/abs/2210.09461

    What video papers compare with as "ToMe", in our reading: the paper's matching on the tokens of
    a frame behind the tower, by the cosine of the tower's keys, again and again until the budget is
    reached. Papers differ in where they put it, some inside the language model. A token is the mean
    of its members and has the cell of the one that the others joined. The paper's own form, which
    makes the tower faster instead, is `tome`.

    Args:
        keep: fraction of each frame's tokens kept, 0 to 1
    """

    keep: float = 0.25
    merges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("tome_vision.keep", self.keep)

    def signals(self) -> Signals:
        return Signals(keys="head_mean")

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.count(tokens.available, self.keep)

    def retaining(self, ratio: float, extent: Extent) -> ToMeVision:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        counts, left = tokens.counts, hosted.total(budget)
        if left == len(tokens):
            return tokens
        keys, _ = ragged.by_frame(self.recorded(tokens, "keys").float(), counts)
        there, most = hosted.numbers(counts), hosted.numbers(budget)
        leader = merged(keys, rounds(there, most))
        leader = leader + ragged.starts(counts).unsqueeze(1)
        if 0 in most:  # frames without a budget keep none
            leader = leader.where(budget.unsqueeze(1) > 0, -1)
        leader, lost = ragged.by_row(leader, counts), len(tokens) - sum(compress(there, most))
        found = merging.to_leaders(tokens.features, leader, left, lost)
        return tokens[found.rows].with_features(found.means, found.members)
