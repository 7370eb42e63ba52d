"""PruneVid merges what stays the same, clusters the rest, and keeps what the question looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

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
        total, device = len(tokens), features.device
        row, cell, present = torch.arange(total, device=device), None, None
        if not hosted.is_grid(tokens.slot):
            cell = tokens.frame * tokens.cells + tokens.slot
            row = row.new_full((tokens.frames * tokens.cells,), -1).index_copy(0, cell, row)
            present = (row >= 0).unflatten(0, (tokens.frames, -1))
        dense = replace(tokens, features=features).dense()
        moves = windows.moving(dense, lengths, self.similarity, self.follow, present)
        still = [tokens.cells - number for number in moves.sum(1).tolist()]  # the one read of them
        groups = windows.groups(lengths, still, hosted.numbers(tokens.counts))

        key = windows.keys(row.unflatten(0, (tokens.frames, -1)), moves, lengths, total).flatten()
        order = (key if cell is None else key[cell]).argsort(stable=True)
        plan = windows.planned(groups, tokens.frames, SMALL, self.clusters)
        sizes, start, cluster, some, large, number = hosted.sent_together(plan[:-1], device)
        value = functional.embedding_bag(order, features, start, mode="mean")
        centre, rank = clustering.leaders(value[some], large, number, NEIGHBOURS)
        cluster = cluster.index_add(0, some, rank)
        first = order[start]  # the row of each, and then of the one that leads it
        first = first.index_copy(0, some, first[some[centre]])
        rows = first.new_empty(sum(plan.left)).scatter(0, cluster, first)
        if self.follow == "paper":
            rows, by_row = rows.sort()
            cluster = by_row.argsort()[cluster]
        means = merging.means(value, cluster, torch.arange(len(rows), device=device))
        joined = cluster.repeat_interleave(sizes, output_size=total)
        members = torch.empty_like(order).scatter(0, order, joined)
        kept = tokens[rows]
        hosted.note_counts(kept.frame, plan.left)
        return kept.with_features(means, members)

    @torch.no_grad()
    def _windows(self, features: Float[Tensor, "n d"], counts: Int[Tensor, "f"]) -> list[int]:
        """How many frames each scene has."""
        every = torch.arange(len(features), device=counts.device)
        mean = functional.embedding_bag(every, features, ragged.starts(counts), mode="mean")
        number = max(1, ops.count(len(counts), self.scenes, "down"))
        label = clustering.equal_peaks(mean.unsqueeze(0), number, NEIGHBOURS)[1]
        return [length for _, length in windows.refined(label.flatten().tolist())]

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
