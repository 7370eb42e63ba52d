"""VisionZip keeps the dominant tokens of a frame and merges the rest into a few contextual ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import sub
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, merging, ops, ragged
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

Merge = Literal["target_plus_mean", "mean"]


class Plan(NamedTuple):
    """Who lives and who follows whom, of tokens in frames padded to `m`."""

    rows: Int[Tensor, "q"]  # of each frame the dominant tokens, then the targets
    targets: Int[Tensor, "t"]  # where in `rows` these are
    leader: Int[Tensor, "f m"]  # where the target is that a token is nearest to, -1 without one
    followers: int  # tokens that have one and are not in `rows`


def split(budget: Int[Tensor, "f"]) -> tuple[list[int], list[int]]:
    """A budget as dominant and contextual tokens, 6:1 with the dominant part rounded down."""
    dominant = [number * 6 // 7 for number in hosted.numbers(budget)]
    return dominant, [*map(sub, hosted.numbers(budget), dominant)]


@exact
def plan(
    saliency: Float[Tensor, "n"],
    keys: Float[Tensor, "n k"],
    counts: Int[Tensor, "f"],
    dominant: list[int],
    contextual: list[int],
) -> Plan:
    """The most salient tokens dominate; evenly spaced targets gather the rest by key cosine."""
    device, most, width = keys.device, max(dominant), max(1, *contextual)
    numbers, targets, row, kept, followers = [], [], 0, 0, 0
    for n, d, t in zip(hosted.numbers(counts), dominant, contextual, strict=True):
        step, target = max(1, (n - d) // max(1, t)), kept + d
        start = min(row, len(keys) - 1)  # an empty frame may stand behind the last token
        numbers += [d, step, t - 1, start, target if t else 0]
        targets += range(target, target + t)
        row, kept, followers = row + n, target + t, followers + (n - d - t if t else 0)
    of_frames, places = hosted.sent_together((numbers, targets), device)
    first, step, last, start, target = of_frames.view(-1, 5, 1).unbind(1)
    scores, valid = ops.by_frame(saliency, counts)
    top = ops.keep_top(scores, first.squeeze(-1), valid)
    order = top.argsort(dim=-1, descending=True, stable=True)
    # counted from the first target; a frame without so many has its last one again
    number = torch.arange(-most, width, device=device)
    there = number.minimum(last)
    rows = order.gather(1, (first + there.maximum(there * step)).clamp(min=0)) + start
    # a token's own norm does not change which target is nearest
    centre = functional.normalize(keys[rows[:, most:]].float(), dim=-1)
    similarity = torch.bmm(ops.by_frame(keys, counts)[0].float(), centre.mT)
    leader = similarity.argmax(dim=-1).minimum(last) + target
    rows = rows.flatten()
    if kept < len(rows):
        own = (number >= -first) & (number <= last)
        rows = rows[ops.marked(own.flatten(), kept)]
    return Plan(rows, places, leader, followers)


def core(
    tokens: VisualTokens,
    saliency: Float[Tensor, "n"],
    keys: Float[Tensor, "n k"],
    dominant: list[int],
    contextual: list[int],
    merge: Merge,
) -> VisualTokens:
    """Of frame f `dominant[f]` tokens in order, then `contextual[f]` merged in target order.

    A token is a member of the row it follows; with nobody to follow it is none's.
    """
    if not len(tokens):
        return replace(tokens, members=tokens.frame)
    rows, targets, leader, number = plan(saliency, keys, tokens.counts, dominant, contextual)
    kept, members = tokens[rows], ragged.by_row(leader, tokens.counts)
    follows = members.index_fill(0, rows, -1)
    members.index_copy_(0, rows, torch.arange(len(rows), device=rows.device))
    if merge == "mean":  # to which a target belongs
        follows.index_copy_(0, rows[targets], targets)
        number += len(targets)
    merged = merging.means(tokens.features.float(), follows, targets, len(tokens) - number)
    if merge == "target_plus_mean":
        merged += kept.features[targets]
    kept.features[targets] = merged.to(kept.features.dtype)  # a copy already
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
