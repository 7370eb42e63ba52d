"""PruneVid merges what stays the same, clusters the rest, and keeps what the question looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import clustering, hosted, merging, ops, ragged, windows
from tokenprune.strategy import Adjustable, Condenser, PrefillStage, StrategyError
from tokenprune.tokens import Extent, SequenceView, VisualTokens

NEIGHBOURS = 7  # of density peaks
SMALL = 14  # groups up to here are not clustered


def best_of_groups(
    scores: Float[Tensor, "n"], counts: Int[Tensor, "g"], keep: float
) -> Bool[Tensor, "n"]:
    """The released selection: the fraction `keep` of each group of rows, truncated.

    A group is the static rows of a scene, or the other rows of a frame. No stage can call it, since
    a view of the prompt does not know groups.
    """
    padded, valid = ops.by_frame(scores, counts)
    return ops.keep_top(padded, ops.count(counts, keep, "down"), valid)[valid]


@dataclass(frozen=True)
class PruneVid(Condenser, PrefillStage, Adjustable, name="prunevid"):
    """PruneVid: Visual Token Pruning for Efficient Video Large Language Models (Huang et al., ACL 2025), https://arxiv.org/abs/2412.16117

    Frames are clustered into scenes. In a scene the cells that stay the same become their mean, in
    its first frame; they, and the other tokens of each frame, become clusters (density peaks).
    Before layer `layer` only the rows live that some head of some row of the question attends to
    most, and the layers below forget the others.

    Decisions: a cluster has the address of its centre, and tokens of a frame keep their order. A
    cell that has lost a token in a frame of its scene is not static. Below seven frames, where the
    release fails, all are neighbours.

    Differs from the authors' code: `follow="released"` restores that a similarity equal to the
    threshold is not static and that clusters come in descending score, static ones first. The
    released selection, by scene and frame, is only a function here; it reads the attention of layer
    10, so compare with `layer=11`. Never reproduced: noise on densities.

    Args:
        similarity: mean cosine from which a cell of a scene is static (tau)
        scenes: clusters of frames, as a fraction of their number, 0 to 1 (gamma)
        clusters: clusters per token of a group of more than 14, 0 to 1 (beta)
        keep: fraction of rows kept from `layer` on, 0 to 1 (alpha)
        layer: first LLM layer (0-based, from 1) that runs without the dropped rows (M)
        follow: "paper", or "released" for the authors' code as described above
    """

    similarity: float = 0.8
    scenes: float = 0.25
    clusters: float = 0.5
    keep: float = 0.4
    layer: int = 10
    follow: Literal["paper", "released"] = "paper"
    mixes_frames: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    forgets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("prunevid.scenes", self.scenes)
        ops.fraction("prunevid.clusters", self.clusters)
        ops.fraction("prunevid.keep", self.keep)

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        if not len(tokens):
            return tokens.with_features(tokens.features, tokens.slot)  # of none
        features = tokens.features.float()  # once, where the model is in half precision
        lengths = self._windows(features, tokens.counts)
        device, width, rows = features.device, tokens.cells, len(tokens)
        scenes = [scene for scene, frames in enumerate(lengths) for _ in range(frames)]
        window = hosted.sent(scenes, device)
        cell = window[tokens.frame] * width + tokens.slot
        long = hosted.sent(lengths, device).repeat_interleave(width)
        still = windows.still(features, cell, long, self.similarity, self.follow)
        first, value = still.leaders(cell), still.means(features, cell)

        row = torch.arange(rows, device=device)
        group = 2 * tokens.frame + ~still.static[cell]  # static ones first
        group = group.where(first == row, 2 * tokens.frames)  # behind all: who joined another
        behind, order = group.sort(stable=True)
        ends = torch.searchsorted(behind, torch.arange(1, 2 * tokens.frames + 1, device=device))
        ends = ends.tolist()  # the one read beside the scenes: how many are in each group
        found = [end - start for start, end in pairwise([0, *ends])]
        left = some = order[: ends[-1]]
        if any(0 < count <= SMALL for count in found):
            large = hosted.sent([count > SMALL for count in [*found, 0]], device)
            some = left[
                ops.marked(large[behind[: len(left)]] > 0, sum(c for c in found if c > SMALL))
            ]
        counts = hosted.sent([count for count in found if count > SMALL], device)
        number = hosted.each(partial(max, 1), ops.count(counts, self.clusters, "down"))
        centre, rank = clustering.ranked_leaders(value[some], counts, number, NEIGHBOURS)
        leader = torch.full_like(row, -1).index_copy(0, left, left)
        leader = leader.index_copy(0, some, some[centre])
        total = len(left) - len(some) + hosted.total(number)
        merged = merging.to_leaders(value, leader, number=total)
        rows, means, members = merged.rows, merged.means, merged.members[first]
        if self.follow == "released":
            by_score = (group * len(row) + row.scatter(0, some, rank))[rows].argsort()
            rows, means, members = rows[by_score], means[by_score], by_score.argsort()[members]
        return tokens[rows].with_features(means, members)

    @torch.no_grad()
    def _windows(self, features: Float[Tensor, "n d"], counts: Int[Tensor, "f"]) -> list[int]:
        """How many frames each scene has."""
        every = torch.arange(len(features), device=counts.device)
        mean = merging.sums_of_runs(features, every, ragged.starts(counts))
        mean = (mean / counts.clamp(min=1).unsqueeze(-1)).unsqueeze(0)
        number = max(1, ops.count(len(counts), self.scenes, "down"))
        number = hosted.sent([number], counts.device)
        valid = hosted.everything(number, len(counts))
        label = clustering.density_peaks(mean, valid, number, NEIGHBOURS).member[0]
        return [length for _, length in windows.refined(label.tolist())]

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        number = ops.count(view.total, self.keep, "up")
        return view.quota_of(view.attend(view.words, "max"), number)

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        found = hosted.choice(budget, view)  # the same scores, if this is the quota
        scores = view.attend(view.words, "max") if found is None else found[0]
        return view.keep_top(scores, budget)

    def retaining(self, ratio: float, extent: Extent) -> PruneVid:
        """Meets `ratio` where nothing is static; else less lives."""
        most = max(0.0, 1.0 - self.layer / extent.depth)  # share of layers with dropped rows
        keep = self.keep if not most else max(self.keep, 1.0 - (1.0 - ratio) / most)
        share = 1.0 - most * (1.0 - keep)  # of what enters the LLM, averaged over layers
        least = share if extent.cells <= SMALL else share / extent.cells
        if ratio < least - 1e-9:
            raise StrategyError(
                f"prunevid retains {least:.1%} to 100.0% here, not {ratio:.1%}: "
                f"it clusters frames of more than {SMALL} tokens, and leaves one of each"
            )
        # a hair more than whole tokens: truncation loses one where the product falls short of them
        clusters = min(1.0, ratio / share * (1.0 + 1e-12))
        return replace(self, clusters=clusters, keep=keep)
