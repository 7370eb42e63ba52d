"""VisionZip keeps the dominant tokens of a frame and merges the rest into a few contextual ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import add, sub
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, merging, ops, ragged, resembling
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

Merge = Literal["target_plus_mean", "mean"]


class Plan(NamedTuple):
    """Who lives and who follows whom, for `f` frames padded to `m` tokens.

    order: places of the dominant tokens, then of the targets, then of the others
    leader: the target a token follows, all targets of the video numbered; behind their numbers, one
        means a follower of nobody (no target in its frame), two not a follower
    """

    order: Int[Tensor, "f m"]
    leader: Int[Tensor, "f m"]


def split(budget: Int[Tensor, "f"]) -> tuple[Int[Tensor, "f"], Int[Tensor, "f"]]:
    """A budget as dominant and contextual tokens, 6:1 with the dominant part rounded down."""
    dominant = hosted.each(lambda number: number * 6 // 7, budget)
    return dominant, hosted.each(sub, budget, dominant)


def plan(
    saliency: Float[Tensor, "f m"],
    keys: Float[Tensor, "f m k"],
    valid: Bool[Tensor, "f m"],
    dominant: Int[Tensor, "f"],
    contextual: Int[Tensor, "f"],
) -> Plan:
    """The most salient tokens dominate; evenly spaced targets gather the rest by key cosine."""
    other = ~ops.keep_top(saliency, dominant, valid)
    rest = other & valid
    place, number = rest.cumsum(-1) - 1, rest.sum(-1)
    step = (number // contextual.clamp(min=1)).clamp(min=1).unsqueeze(-1)
    target = rest & (place % step == 0) & (place // step < contextual.unsqueeze(-1))
    follows = other & ~target
    order = (other.to(torch.uint8) + follows).argsort(dim=-1, stable=True)

    column = torch.arange(ragged.widest(contextual), device=keys.device)
    centre = order.gather(1, (dominant.unsqueeze(-1) + column).clamp(max=order.shape[1] - 1))
    before, nobody = ragged.starts(contextual).unsqueeze(-1), hosted.total(contextual)
    leader = resembling.nearest_centre(keys, centre, contextual) + before
    if 0 in hosted.numbers(contextual):
        leader = torch.where((contextual > 0).unsqueeze(-1), leader, nobody)
    return Plan(order, torch.where(follows & valid, leader, nobody + 1))


def gather(
    followers: Float[Tensor, "q d"],
    number: Int[Tensor, "q 1"],
    target: Float[Tensor, "q d"],
    merge: Merge,
) -> Float[Tensor, "q d"]:
    """Contextual tokens, written over the float32 sum of their followers."""
    if merge == "mean":
        return followers.add_(target).div_(1 + number)
    return followers.div_(number.clamp(min=1)).add_(target)


def core(
    tokens: VisualTokens,
    saliency: Float[Tensor, "n"],
    keys: Float[Tensor, "n k"],
    dominant: Int[Tensor, "f"],
    contextual: Int[Tensor, "f"],
    merge: Merge,
) -> VisualTokens:
    """Of frame f `dominant[f]` tokens in order, then `contextual[f]` merged in target order.

    A token is a member of the row it follows; with nobody to follow it is none's.
    """
    counts = tokens.counts
    saliency, valid = ops.by_frame(saliency, counts)
    order, leader = plan(saliency, ops.by_frame(keys, counts)[0], valid, dominant, contextual)
    rows = ops.leading(order, counts, hosted.each(add, dominant, contextual))
    kept, leader = tokens[rows], ragged.by_row(leader, counts)

    run, token = leader.sort(stable=True)  # tokens by their leader, a run each
    row = dominant.cumsum(0).repeat_interleave(contextual, output_size=hosted.total(contextual))
    number = torch.arange(len(row) + 1, device=row.device)
    start, token = torch.searchsorted(run, number), token[: len(tokens) - len(kept)]
    followers = merging.sums_of_runs(tokens.features.float(), token, start)[:-1]
    row = row + number[:-1]  # where the targets are among the kept, which are a copy already
    merged = gather(followers, start.diff().unsqueeze(-1), kept.features[row], merge)
    kept.features[row] = merged.to(kept.features.dtype)
    members = torch.cat([row, row.new_full((2,), -1)])[leader]
    members[rows] = torch.arange(len(rows), device=rows.device)
    return replace(kept, members=members)


@dataclass(frozen=True)
class VisionZip(VisionStage, TowerReader, Adjustable, name="visionzip"):
    """VisionZip: Longer is Better but Not Necessary in Vision Language Models (Yang et al., CVPR 2025), https://arxiv.org/abs/2412.04467

    Per frame, `6 * budget // 7` dominant tokens with most attention in the vision tower, in spatial
    order, then the contextual tokens in target order. Behind the host's pooling, scores and keys
    pooled alike ("VisionZip†" of the DyToK paper), or before it ("VisionZip"). At full budget it
    permutes a frame's tokens and changes none.

    Decisions: a contextual token is `target + mean of its followers`, the released form behind the
    published numbers; the paper words a true average. `keep` counts tokens of a frame at the LLM's
    input, rounded half to even; published budgets are multiples of seven (`keep=35/196` is the
    nominal 20 %). A CLS row, in the published form the first dominant token, is text here.
    Differs from the authors' code: fp32 scores, no materialised attention map, no contextual token
    is legal, and an impossible budget raises.

    Args:
        keep: fraction of each frame's tokens kept, dominant and contextual together, 0 to 1
        merge: a contextual token is the target plus its followers' mean, or the "mean" of them all
        saliency: attention "received", or "cls", that of the CLS row where the tower has one
        pooled: false chooses and merges patches, before the projector and the host's pooling
    """

    keep: float = 0.25
    merge: Merge = "target_plus_mean"
    saliency: Literal["received", "cls"] = "received"
    pooled: bool = True
    merges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("visionzip.keep", self.keep)

    def signals(self) -> Signals:
        grid = None if self.pooled else "patches"
        return Signals(saliency=self.saliency, keys="head_mean", grid=grid)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.count(tokens.available, self.keep)

    def retaining(self, ratio: float, extent: Extent) -> VisionZip:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        saliency, keys = self.recorded(tokens, "saliency"), self.recorded(tokens, "keys")
        return core(tokens, saliency, keys, *split(budget), self.merge)
