"""FastVID cuts a video into segments, keeps salient tokens and merges the others into anchors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import clustering, merging, ops, scenes
from tokenprune.strategy import Adjustable, Condenser, Extent, TowerReader
from tokenprune.tokens import Signals, VisualTokens


@dataclass(frozen=True)
class FastVID(Condenser, TowerReader, Adjustable, name="fastvid"):
    """FastVID: Dynamic Density Pruning for Fast Video Large Language Models (Shen et al., NeurIPS 2025), https://arxiv.org/abs/2503.11187

    The video falls into segments where consecutive frames differ. Of every frame the most salient
    tokens stay. In every `stride`-th frame of a segment, from its last, density peaks of the others
    become anchors; the remaining tokens of the segment merge into that anchor of each such frame
    which they resemble most (cosine). What is left keeps its original position.

    Decisions: anchor frames are counted from the last, as every release does (the paper: "at a
    fixed interval"). Of `int(keep * n)` tokens a frame, a segment's anchors are `int(context * .)`;
    the last frames with anchors, and the first with salient tokens, get one more, as far as they
    hold them. A token may join anchors of several frames: `members` has the first.

    Differs from the authors' code: towers here rarely have the pooling head whose attention and
    output are behind the published numbers, hence `saliency`. `follow="released"` is the code for
    LLaVA-OneVision: a remainder of anchors is lost, anchors join themselves or each other, and of
    frames with their own share of anchors only their own tokens join. Never: noise on densities.

    Args:
        keep: fraction of the tokens kept, 0 to 1 (r)
        segments: at least so many, as far as there are frames (c)
        similarity: a segment ends where the cosine of consecutive frames is below it (tau)
        context: share of the kept tokens that are anchors, 0 to 1 (d)
        stride: every so many frames of a segment one has anchors (p)
        beta: weight of an anchor beside the mean of those that joined it, 0 to 1
        neighbours: so many tokens, itself among them, make a density
        saliency: "pseudo_cls" attention, frames are compared by their mean; or attention and output
            of the tower's "pooling_head", as published, where it has one
        near: frames at least so similar to the next of their segment only feed anchors, 0 to 1;
            in "qwen" only
        follow: "paper", "released" for LLaVA-OneVision as described above, or "qwen" as released
            for Qwen2.5-VL, which keeps nothing of near-duplicate frames and caps counts
    """

    keep: float = 0.25
    segments: int = 8
    similarity: float = 0.9
    context: float = 0.4
    stride: int = 4
    beta: float = 0.6
    neighbours: int = 4
    saliency: Literal["pseudo_cls", "pooling_head"] = "pseudo_cls"
    near: float = 0.95
    follow: Literal["paper", "released", "qwen"] = "paper"

    mixes_frames = True
    merges = True
    positions = "original"

    def __post_init__(self) -> None:
        ops.fraction("fastvid.keep", self.keep)
        ops.fraction("fastvid.context", self.context)
        ops.fraction("fastvid.beta", self.beta)
        if min(self.segments, self.stride, self.neighbours) < 1:
            raise ValueError("fastvid.segments, stride and neighbours count: write 1 or more")

    def signals(self) -> Signals:
        summary = "pooling_head" if self.saliency == "pooling_head" else None
        return Signals(saliency=self.saliency, summary=summary)

    def retaining(self, ratio: float, extent: Extent) -> FastVID:
        keep = min(1.0, ratio + 1e-9)  # truncation loses one where a product falls short of it
        own = ops.count(extent.cells, keep, "down")
        room = (extent.cells - own - 2) / max(1, own * (self.stride - 1))  # in frames with anchors
        return replace(self, keep=keep, context=max(0.0, min(self.context, room)))

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        counts, saliency = tokens.counts, self.recorded(tokens, "saliency")
        features, valid = ops.by_frame(tokens.features.float(), counts)
        alike, segment = self._segments(tokens, features)
        salient, number, alone = self._numbers(counts, segment, alike)
        top = ops.keep_top(ops.by_frame(saliency, counts)[0], salient, valid) & valid

        frame, rest = number.nonzero().squeeze(-1), valid & ~top
        released = self.follow == "released"
        order = "score" if released else "place"
        anchor, real, _ = clustering.density_peaks(
            features[frame], rest[frame], number[frame], self.neighbours, order
        )
        anchors = frame, anchor, real, alone[frame]
        found = merging.to_anchors(features, rest, segment, *anchors, not released, self.beta)

        row = torch.zeros_like(found.joined)
        row[valid] = torch.arange(len(tokens), device=row.device)
        anchor = row[frame.unsqueeze(-1), anchor]
        kept = top[valid].index_fill(0, anchor[real], True)
        place = kept.long().cumsum(0) - 1  # in the result, of those that are kept
        joined = merging.onwards(place[anchor.flatten()], found.joined[valid])
        result = tokens[kept.nonzero().squeeze(-1)]
        value = found.features[real].to(result.features.dtype)
        merged = result.features.index_copy(0, place[anchor[real]], value)
        return result.with_features(merged, torch.where(kept, place, joined))

    def _segments(
        self, tokens: VisualTokens, features: Float[Tensor, "f m d"]
    ) -> tuple[Float[Tensor, "t"], Int[Tensor, "f"]]:
        """The similarity of each frame to the next, and the segment of each frame."""
        summary = features.sum(1) / tokens.counts.clamp(min=1).unsqueeze(-1)
        if self.saliency == "pooling_head":
            summary = self.recorded(tokens, "summary")
        alike = ops.cosine(summary[:-1], summary[1:])
        return alike, clustering.segments(alike, self.similarity, self.segments)

    def _numbers(
        self, counts: Int[Tensor, "f"], segment: Int[Tensor, "f"], alike: Float[Tensor, "t"]
    ) -> tuple[Int[Tensor, "f"], Int[Tensor, "f"], Bool[Tensor, "f"]]:
        """Salient tokens and anchors of each frame, and whether only its own tokens join these."""
        last = functional.pad(segment.diff() > 0, (0, 1), value=True)
        live = last | (functional.pad(alike, (0, 1)) < self.near) | (self.follow != "qwen")
        turn, lives = scenes.turns(live, segment)
        back, groups = lives - 1 - turn, (lives + self.stride - 1) // self.stride
        budget = ops.count(counts, self.keep, "down")
        total = clustering.totals(budget, segment)[segment]
        if self.follow == "released":
            context = ops.count(budget, self.context, "down")
            salient = budget - context
            anchors = clustering.totals(context, segment)[segment] // groups
            alone = anchors == context
        else:
            context = ops.count(total, self.context, "down")
            if self.follow == "qwen":
                context = context.clamp(min=1).minimum(total)
            salient = scenes.share(total - context, lives, turn)
            anchors = scenes.share(context, groups, back // self.stride)
            alone = torch.zeros_like(last)
        if self.follow == "qwen":
            several = (segment == segment.unsqueeze(-1)).sum(0) > 1
            anchors = torch.where(several, anchors.minimum(counts // 2), anchors)
            salient = salient.minimum(counts - anchors)
        salient, anchors = salient * live, anchors * (live & (back % self.stride == 0))
        salient = salient.minimum(counts)
        return salient, anchors.minimum(counts - salient), alone
