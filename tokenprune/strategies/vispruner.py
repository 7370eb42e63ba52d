"""VisPruner keeps the salient tokens of a frame, and of the others those that have no twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import sub
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted, ops, picking
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

TWINS = 8  # that a frame loses in one round, at most


def gone(left: int, wanted: int) -> int:
    """How many of a frame's `left` tokens the next round takes, where `wanted` are to stay."""
    return min(left - wanted, TWINS, left // 2) if wanted else 0


@exact
@torch.no_grad()  # it ranks
def diverse(
    vectors: Float[Tensor, "f m d"],
    rest: Int[Tensor, "f m"],
    left: Int[Tensor, "f"],
    wanted: Int[Tensor, "f"],
) -> Int[Tensor, "f k"]:
    """Of the first `left[f]` places in each row of `rest`, `wanted[f]` that differ; -1 is none.

    Round after round every second of them is compared, by cosine, with those between. The ones with
    the nearest twin go; the others, nearest first, now stand in front of those between, and that
    decides who is compared in the next round.
    """
    similar, width = (vectors @ vectors.mT).flatten(1), vectors.shape[1]
    # how many go in which round depends on nothing but numbers, which the host has
    there, numbers = [*hosted.numbers(left)], hosted.numbers(wanted)
    while any(lost := [*map(gone, there, numbers)]):
        rest = rest[:, : max(there)]
        even, odd = rest[:, ::2], rest[:, 1::2]
        pairs = even.mul(width).unsqueeze(2) + odd.unsqueeze(1)
        twins = similar.gather(1, pairs.flatten(1)).view_as(pairs)
        if len({*there}) == len({*lost}) == 1:
            even = even.gather(1, ops.ranking(twins.amax(-1)))
            rest = torch.cat([even[:, lost[0] :], odd], dim=1)
        else:
            rest = _ragged(even, odd, twins, there, lost)
        there = [*map(sub, there, lost)]
    column = torch.arange(rest.shape[1], device=rest.device)
    return rest.where(column < wanted.unsqueeze(1), -1)


def _ragged(
    even: Int[Tensor, "f a"],
    odd: Int[Tensor, "f b"],
    twins: Float[Tensor, "f a b"],
    left: Sequence[Any],
    lost: Sequence[Any],
) -> Int[Tensor, "f c"]:
    """What a round leaves of frames of different sizes, first in each row."""
    numbers = hosted.sent([*left, *lost], even.device).view(2, -1, 1)
    place = torch.arange(even.shape[1], device=even.device)
    between = place[: odd.shape[1]] < numbers[0] // 2
    real = place < numbers[0] - numbers[0] // 2
    nearest = twins.masked_fill(~between.unsqueeze(1), -torch.inf).amax(-1)
    even = even.gather(1, ops.ranking(nearest, real))
    stays = torch.cat([real & (place >= numbers[1]), between], dim=1)
    packed = (~stays).to(torch.int8).argsort(dim=1, stable=True)
    return torch.cat([even, odd], dim=1).gather(1, packed)


@dataclass(frozen=True)
class VisPruner(VisionStage, TowerReader, Adjustable, name="vispruner"):
    """Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs (Zhang et al., ICCV 2025), https://arxiv.org/abs/2412.01818

    Per frame, the share `important` of the kept tokens are those with most attention in the vision
    tower. The others are what is left of the rest after rounds that compare every second token, in
    descending saliency, with those between and drop up to eight with the nearest twin. Kept tokens
    go on in their order. `important=1` is FasterVLM, the paper's first version.

    Decisions: tokens are compared after the projector and on the pooled grid, where a vision stage
    has them; saliency is pooled with them. The important ones are counted down (`int(T * share)`),
    frames are independent and keep the same share of their tokens.

    Differs from the authors' code: they compare what the projector takes, which `follow="released"`
    reads. There an odd number of tokens that are not important, or fewer than eight that are to
    stay diverse, end in an IndexError; here the rounds take fewer. Scores are fp32 and ties go to
    the lower index. Where the release runs, results agree.

    Args:
        keep: fraction of each frame's tokens kept, 0 to 1
        important: share of the kept tokens that are salient, 0 to 1; 1 is FasterVLM
        saliency: attention "received" by a token, or "cls", that of the CLS row where there is one
        follow: what is compared, projected tokens ("paper") or what the projector took ("released")
    """

    keep: float = 0.25
    important: float = 0.5
    saliency: Literal["received", "cls"] = "received"
    follow: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        ops.fraction("vispruner.keep", self.keep)
        ops.fraction("vispruner.important", self.important)

    def signals(self) -> Signals:
        released = self.follow == "released"
        return Signals(saliency=self.saliency, tower="projector_input" if released else None)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.count(tokens.counts, self.keep)

    def retaining(self, ratio: float, extent: Extent) -> VisPruner:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        counts = tokens.counts
        saliency, valid = ops.by_frame(self.recorded(tokens, "saliency"), counts)
        first = ops.count(budget, self.important, "down")
        order = ops.ranking(saliency, valid)
        place = torch.arange(order.shape[1], device=order.device)
        top = order.where(place < first.unsqueeze(1), -1)
        if self.important < 1.0:
            rest = order.gather(1, (place + first.unsqueeze(1)).clamp(max=len(place) - 1))
            compared = tokens.features
            if self.follow == "released":
                compared = self.recorded(tokens, "tower")
            vectors, _ = ops.by_frame(picking.unit(compared), counts)
            left, wanted = hosted.each(sub, counts, first), hosted.each(sub, budget, first)
            top = torch.cat([top, diverse(vectors, rest, left, wanted)], dim=1)
        return tokens[picking.rows(top, counts, budget)]
