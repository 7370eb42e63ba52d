"""FastVID cuts a video into segments, keeps salient tokens and merges the others into anchors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch.nn import functional

from tokenprune import clustering, hosted, merging, ops, ragged, scenes
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
        counts, features = tokens.counts, tokens.features.float()
        there, released = hosted.numbers(counts), self.follow == "released"
        if self.saliency == "pooling_head":
            summary = self.recorded(tokens, "summary")
        else:  # padding makes it shorter, which cosines do not see
            summary = ops.by_frame(features, counts)[0].mean(1)
        alike = scenes.similarities(summary)
        lengths = scenes.segments(alike, self.similarity, self.segments)
        plan = merging.planned(lengths, there, self._shares(there, lengths, alike), not released)
        salient, frame, start, left, number, cell, begins = plan.sent(counts.device)

        scores, valid = ops.by_frame(self.recorded(tokens, "saliency"), counts)
        top = ops.ranking(scores, valid).argsort(dim=-1) < salient.unsqueeze(-1)
        row = merging.left_rows(top, valid, frame, start, hosted.most(left), len(tokens))
        points, order = functional.embedding(row, features), "score" if released else "place"
        centre, real = clustering.peaks(points, left, number, self.neighbours, order)
        anchor, top = row.gather(1, centre), ragged.by_row(top, counts)
        own = anchor.take(cell)
        kept = top.index_fill(0, own, True)
        kind = torch.add(top, tokens.frame, alpha=3) + kept  # as `begins` has them in each frame
        begins = functional.embedding(kind, begins.view(-1, plan.reach))
        joined = merging.to_anchors(features, anchor, real, own, begins, plan, self.beta)

        rows = ops.marked(kept, sum(plan.kept))
        result, place = tokens[rows], torch.arange(len(rows), device=rows.device)
        hosted.note_counts(result.frame, plan.kept)
        value, at = joined.features.to(result.features.dtype), torch.searchsorted(rows, own)
        first = functional.pad(at, (0, anchor.shape[1]), value=-1)[joined.first]
        members = first.index_copy(0, rows, place)
        return result.with_features(result.features.index_copy(0, at, value), members)

    def _shares(
        self, counts: Sequence[int], lengths: Sequence[int], alike: Sequence[float]
    ) -> Iterator[tuple[int, int, bool]]:
        """Salient tokens and anchors of each frame, and whether only its own tokens join these."""
        qwen, released = self.follow == "qwen", self.follow == "released"
        far = scenes.below(alike, self.near if qwen else torch.inf)
        for start, end in pairwise(accumulate(lengths, initial=0)):
            live = [*far[start : end - 1], True]
            *turn, lives = accumulate(live, initial=0)
            groups = -(-lives // self.stride)
            budget = [ops.count(number, self.keep, "down") for number in counts[start:end]]
            shares, total = [ops.count(n, self.context, "down") for n in budget], sum(budget)
            context = ops.count(total, self.context, "down")
            context = min(max(context, 1), total) if qwen else context
            for frame, count in enumerate(counts[start:end]):
                back = lives - 1 - turn[frame]
                salient = scenes.share(total - context, lives, turn[frame])
                anchors = scenes.share(context, groups, back // self.stride)
                if released:
                    salient, anchors = budget[frame] - shares[frame], sum(shares) // groups
                elif qwen:
                    anchors = min(anchors, count // 2) if end - start > 1 else anchors
                    salient = min(salient, count - anchors)
                salient = min(salient, count) * live[frame]
                held = live[frame] and back % self.stride == 0
                alone = released and anchors == shares[frame]
                yield salient, min(anchors, count - salient) * held, alone
