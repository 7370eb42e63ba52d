"""FlashVID keeps attentive, diverse tokens and merges the others along trees through time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import clustering, merging, ops, picking, trees
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Condenser, PrefillStage, TowerReader
from tokenprune.tokens import Extent, SequenceView, Signals, VisualTokens


@exact
@torch.no_grad()  # it ranks, and is written in place
def adts(
    unit: Float[Tensor, "f m d"],
    valid: Bool[Tensor, "f m"],
    weight: Float[Tensor, "f m"],
    number: Int[Tensor, "f"],
) -> Bool[Tensor, "f m"]:
    """Marks `number[f]` of each frame's unit vectors, one by one: that whose smallest cosine
    distance to those before (to all others, at first), times its weight, is largest.
    """
    far = (unit @ unit.mT).neg_().add_(1).mul_(weight.unsqueeze(1))  # [f i j], the weight of j
    far.masked_fill_(~valid.unsqueeze(2), torch.inf)
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    lonely = far.masked_fill(itself, torch.inf).amin(1)
    frame = torch.arange(len(far), device=far.device)
    group = frame.unsqueeze(-1).expand(valid.shape)

    def nearer(worth: Tensor, pick: Tensor, step: int) -> Tensor:
        distance = far[frame, pick]
        return worth.minimum(distance) if step else distance

    picks = picking.greedily(lonely, nearer, int(number.max()), group, number, valid)
    return picking.marked(picks, valid.shape[1])


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
        budget = ops.count(tokens.counts, self.keep, "up", self.expansion)
        chosen = ops.count(budget, self.alpha, "up")
        picked, parent, segment = self._forest(tokens, budget, chosen)
        tree, value = trees.gathered(tokens.features, parent, tokens.frames, self.follow)

        free = (~picked[tree.rows]).nonzero().squeeze(-1)
        roots = torch.bincount(tokens.frame[tree.rows[free]], minlength=tokens.frames)
        room = clustering.totals(budget - chosen, segment).double()
        share = (room / clustering.totals(roots, segment).clamp(min=1)).clamp(max=1)
        centres = ops.count(roots, share[segment], "up")
        centre = clustering.leaders(value[free], roots, centres, centres.clamp(max=7))
        leader = torch.arange(len(value), device=value.device)
        leader[free] = torch.where(centre < 0, -1, free[centre])
        cluster = merging.to_leaders(value, leader)
        kept = tokens[tree.rows[cluster.rows]]
        return kept.with_features(cluster.means, cluster.members[tree.members])

    @exact
    @torch.no_grad()
    def _forest(
        self, tokens: VisualTokens, budget: Int[Tensor, "f"], chosen: Int[Tensor, "f"]
    ) -> tuple[Bool[Tensor, "n"], Int[Tensor, "n"], Int[Tensor, "f"]]:
        """Tokens that ADTS picks, the parent of each token, and the segment of each frame."""
        counts = tokens.counts
        features, valid = ops.by_frame(tokens.features.float(), counts)
        weight, _ = ops.by_frame(self.recorded(tokens, "saliency").float(), counts)
        mean = features.sum(1) / counts.clamp(min=1).unsqueeze(-1)
        segment = torch.zeros_like(counts)
        if self.segments is not None:
            alike = ops.cosine(mean[1:], mean[:-1])
            segment = clustering.segments(alike, self.transition, self.segments)
        if self.relevance:
            whole = (segment.unsqueeze(-1) == segment).float() @ mean  # only proportions matter
            weight = weight * (features @ whole.unsqueeze(-1)).squeeze(-1)
        unit = picking.unit(features)
        picked = adts(unit, valid, weight, chosen)
        rules = clustering.totals(budget, segment), self.similarity, self.follow
        return picked[valid], trees.parents(unit, valid, valid & ~picked, segment, *rules), segment

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
