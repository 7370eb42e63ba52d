"""FlashVID keeps attentive, diverse tokens and merges the others along trees through time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import sub
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, picking, ragged, scenes, trees
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Condenser, PrefillStage, TowerReader
from tokenprune.tokens import Extent, SequenceView, Signals, VisualTokens


@exact
@torch.no_grad()  # it ranks
def adts(
    unit: Float[Tensor, "f m d"],
    valid: Bool[Tensor, "f m"],
    weight: Float[Tensor, "f 1 m"],
    number: Int[Tensor, "f"],
) -> Int[Tensor, "f k"]:
    """Places of `number[f]` of each frame's unit vectors, one by one: that whose smallest cosine
    distance to those before (to all others, at first), times its weight, is largest.
    """
    far = torch.addcmul(weight, unit.bmm(unit.mT), weight, value=-1)  # [f i j], the weight of j
    return picking.apart(far, valid, number)


@dataclass(frozen=True)
class FlashVID(Condenser, TowerReader, PrefillStage, Adjustable, name="flashvid"):
    """FlashVID: Efficient Video Large Language Models via Training-free Tree-based Spatiotemporal Token Merging (Fan et al., ICLR 2026), https://arxiv.org/abs/2602.08024

    The video is cut into segments where its frames change. Of every frame ADTS keeps tokens that
    are attended to, fit the segment and differ. Each of the others may follow the most similar one
    of the frame before; a tree becomes its mean, at its root, and the roots of a frame become as
    many clusters (density peaks) as fit the budget. Before layer `layer` the rows go that the last
    prompt token attends to least.

    Decisions: a cluster has the address of its centre, tokens of a frame keep their order. Budgets
    follow what each frame has.

    Differs from the authors' code: `follow="released"` restores that a tree's sum is divided by 1 +
    the root's direct children (a cell that stays the same over P frames becomes P / 2 times its
    value) and that a similarity equal to the threshold does not merge. Never reproduced: picked
    tokens picked again, or clustered again in a segment of one frame; noise on densities.

    Args:
        keep: fraction of visual tokens kept, 0 to 1, averaged over LLM layers (r)
        expansion: the LLM sees so many times `keep` at its input
        alpha: share of ADTS in it, 0 to 1
        similarity: cosine from which tokens of two frames merge, 0 to 1 (T_tau)
        transition: a segment ends where the cosine of frame means lies below, 0 to 1
        segments: at least so many (released for Qwen: 4); none: the video is one
        relevance: whether ADTS weighs by similarity to the segment (released for Qwen: not)
        layer: first LLM layer (0-based, from 1) that runs without the dropped tokens (K)
        inner: fraction kept from there, 0 to 1
        follow: "paper", or "released" for the authors' code as described above
    """

    keep: float = 0.1
    expansion: float = 1.25
    alpha: float = 0.7
    similarity: float = 0.8
    transition: float = 0.9
    segments: int | None = 8
    relevance: bool = True
    layer: int = 20
    inner: float = 0.3
    follow: Literal["paper", "released"] = "paper"
    mixes_frames: ClassVar[bool] = True
    merges: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("flashvid.keep", self.keep)
        ops.fraction("flashvid.alpha", self.alpha)
        ops.fraction("flashvid.inner", self.inner)

    def signals(self) -> Signals:
        return Signals(saliency="received")

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        counts = tokens.counts
        features, valid = ops.by_frame(tokens.features.float(), counts)
        there, device = hosted.numbers(counts), tokens.frame.device
        budget = [ops.count(number, self.keep, "up", self.expansion) for number in there]
        chosen = hosted.sent([ops.count(number, self.alpha, "up") for number in budget], device)
        unit, segment, picks = self._picks(tokens, features, valid, chosen)
        room = [*map(sub, budget, hosted.numbers(chosen))]
        if not any(room):  # for trees: what was picked is all that is left
            kept = tokens[picking.rows(picks, counts, chosen)]
            hosted.note_counts(kept.frame, hosted.numbers(chosen))
            return kept

        picked = picking.marked(picks, valid.shape[1])
        taken = picked if hosted.all_true(valid) else picked | ~valid
        spare = hosted.sent([*map(sub, there, budget)], device)
        parent = trees.parents(unit, taken, segment, spare, self.similarity, self.follow)
        some = picked, taken, segment, chosen, room
        found = trees.clustered(features, parent, *some, self.follow)
        kept = tokens[trees.rows(found.places, counts, valid.shape[1])]
        hosted.note_counts(kept.frame, found.counts)
        return kept.with_features(found.means, ragged.by_row(found.members, counts))

    @exact
    @torch.no_grad()
    def _picks(
        self,
        tokens: VisualTokens,
        features: Float[Tensor, "f m d"],
        valid: Bool[Tensor, "f m"],
        chosen: Int[Tensor, "f"],
    ) -> tuple[Float[Tensor, "f m d"], Int[Tensor, "f"], Int[Tensor, "f k"]]:
        """Unit vectors, the segment of each frame, and the places that ADTS picks."""
        counts = tokens.counts
        weight, _ = ops.by_frame(self.recorded(tokens, "saliency").float(), counts)
        weight, mean = weight.unsqueeze(1), features.mean(1)
        if not hosted.all_true(valid):
            mean = features.sum(1) / counts.clamp(min=1).unsqueeze(-1)
        if self.segments is None or tokens.frames == 1:
            segment = torch.zeros_like(counts)
        else:
            alike = trees.steps(mean)
            segment = scenes.segment_of(alike, self.transition, self.segments)
        if self.relevance:
            whole = (segment.unsqueeze(1) == segment).float() @ mean  # only proportions matter
            weight = weight * whole.unsqueeze(1).bmm(features.mT)
        unit = picking.unit(features)
        return unit, segment, adts(unit, valid, weight, chosen)

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        number = ops.count(view.total, self.inner, "up")
        return view.quota_of(view.attention, number)

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        return view.keep_top(view.attention, budget)

    def retaining(self, ratio: float, extent: Extent) -> FlashVID:
        most = max(0.0, 1.0 - self.layer / extent.depth)  # share of layers with dropped rows
        inner = self.inner if not most else max(self.inner, 1.0 - (1.0 - ratio) / most)
        share = 1.0 - most * (1.0 - inner)  # of what enters the LLM, averaged over layers
        expansion = self.expansion if self.expansion * share >= ratio else 1.0
        # a hair less than whole tokens: rounding up adds one where the product exceeds them
        keep = min(1.0, ratio / (expansion * share)) * (1.0 - 1e-12)
        return replace(self, keep=keep, expansion=expansion, inner=inner)
