"""HoliTom merges static cells over scenes and time, then unattended rows inside the LLM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import clustering, hosted, merging, ops, scenes
from tokenprune.strategy import Adjustable, Condenser, Extent, PrefillStage, TowerReader
from tokenprune.tokens import SequenceView, Signals, Survivors, VisualTokens

Follow = Literal["paper", "released"]


def centred(centre: Int[Tensor, "q"], beta: float, lasting: Int[Tensor, "q"]) -> Float[Tensor, "q"]:
    """What each static cell weighs, as released, in every one of the `lasting` frames: a centre
    `beta`, those that joined it the rest together.
    """
    size = torch.bincount(centre + 1)[centre + 1].float()
    own = centre == torch.arange(len(centre), device=centre.device)
    weight = torch.where(own, beta, (1 - beta) / (size - 1)).masked_fill(size == 1, 1)
    return weight / lasting


@dataclass(frozen=True)
class HoliTom(Condenser, PrefillStage, TowerReader, Adjustable, name="holitom"):
    """HoliTom: Holistic Token Merging for Fast Video Large Language Models (Shao et al., NeurIPS 2025), https://arxiv.org/abs/2505.21334

    At the input the video falls into scenes, consecutive frames chosen so that averaging what
    stays the same in them saves most tokens. A cell is static where it resembles itself (cosine
    above `similarity`) in every transition of its scene: such cells become their mean over time
    and then density-peak clusters in the scene's first frame. Of the other cells each frame keeps
    those with most attention in the vision tower. Before LLM layer `layer`, the rows that the last
    prompt token attends to least merge into the most similar row that stays.

    Decisions: `keep` counts what is left after averaging over time, hence a little more lives
    (every frame rounds up) or less (a video that stands still). All static cells of a scene go
    where their share rounds to none. A cell that a frame lost before is not static. The inner
    stage competes over all frames; given a budget, in each. Without a row to merge into, nothing
    merges. The unused share of clustered dynamic tokens is left out.

    Differs from the authors' code: `follow="released"` restores centres that weigh `beta` against
    all that joined them, scenes whose first frame lists static tokens first, and inner merging one
    by one, each halving what the row was before. Never reproduced: noise on densities, the newline
    as a visual row, a kept fraction handed on to the next video, attention maps in full.

    Args:
        keep: fraction of the tokens kept at the input, 0 to 1 (r)
        similarity: a cell is static above this cosine of consecutive frames (tau)
        beta: weight of a centre among those that joined it, 0 to 1; only as released
        neighbours: so many tokens, itself among them, make a density
        window: most frames of a scene
        layer: first LLM layer (0-based, from 1) that runs without the merged rows (K)
        drop: fraction of visual rows merged away there, 0 to 1 (R); 0: at the input only
        follow: "paper", or "released" for the authors' code as described above
    """

    keep: float = 0.15
    similarity: float = 0.8
    beta: float = 0.6
    neighbours: int = 7
    window: int = 1024
    layer: int = 18
    drop: float = 0.5
    follow: Follow = "paper"

    mixes_frames = True
    merges = True

    def __post_init__(self) -> None:
        ops.fraction("holitom.keep", self.keep)
        ops.fraction("holitom.beta", self.beta)
        ops.fraction("holitom.drop", self.drop)
        if min(self.neighbours, self.window) < 1:
            raise ValueError("holitom.neighbours and holitom.window count: write 1 or more")

    def signals(self) -> Signals:
        return Signals(saliency="received")

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        saliency = self.recorded(tokens, "saliency")
        if not len(tokens):
            return tokens
        row = place = at = torch.arange(len(tokens), device=tokens.frame.device)
        present = hosted.everything(tokens.counts, tokens.cells)
        if not hosted.is_grid(tokens.slot):
            place = tokens.frame * tokens.cells + tokens.slot  # in the grid
            at = row.new_full((tokens.frames * tokens.cells,), -1).scatter(0, place, row)
            present = (at >= 0).view(tokens.frames, -1)
        found = scenes.most_static(tokens.dense(), present, self.similarity, self.window)
        ratio = min(self.keep / ((len(tokens) - found.saved) / len(tokens)), 1.0)

        cells = hosted.numbers(found.cells)
        moving = hosted.each(lambda n, scene: n - cells[scene], tokens.counts, found.of)
        number, rest = ops.count(moving, ratio, "up"), hosted.total(moving)
        if rest == len(tokens):  # nothing stands still, nothing merges
            scores, _ = ops.by_frame(saliency, moving)
            best = ops.top_rows(scores, moving, number)
            kept = torch.full_like(row, -1).index_copy(0, best, row[: len(best)])
            return replace(tokens[best], members=kept)
        static = found.static.flatten().index_select(0, place)
        other = ops.marked(~static, rest)
        best = other[ops.top_rows(ops.by_frame(saliency[other], moving)[0], moving, number)]

        home = at[found.first[tokens.frame] * tokens.cells + tokens.slot].masked_fill(~static, -1)
        still = merging.to_leaders(tokens.features, home, number=sum(cells))  # averaged over time
        centres = ops.count(found.cells, ratio)
        few = hosted.each(partial(min, self.neighbours), centres)
        centre = clustering.leaders(still.means, found.cells, centres, few, "place")
        leader = merging.onwards(merging.onwards(still.rows, centre), still.members)
        leader = leader.index_copy(0, best, best)
        left = hosted.total(number) + hosted.total(centres)
        if self.follow == "paper":
            merged = merging.to_leaders(tokens.features, leader, number=left)
            return tokens[merged.rows].with_features(merged.means, merged.members)
        weight = centred(centre, self.beta, still.sizes)[still.members].where(static, 1)
        merged = merging.to_leaders(tokens.features, leader, weight, left)
        result = tokens[merged.rows].with_features(merged.sums)
        order = (2 * result.frame + ~static[merged.rows]).argsort(stable=True)
        return replace(result[order], members=merging.onwards(order.argsort(), merged.members))

    def retaining(self, ratio: float, extent: Extent) -> HoliTom:
        late = max(0.0, 1.0 - self.layer / extent.depth)  # share of layers behind the inner stage
        drop = min(self.drop, (1.0 - ratio) / late) if late else self.drop
        # a hair less than whole tokens: rounding up adds one where the product exceeds them
        keep = min(1.0, ratio / (1.0 - late * drop)) * (1.0 - 1e-12)
        return replace(self, keep=keep, drop=drop)

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        if not self.drop:
            return view.counts
        number = ops.count(view.total, 1.0 - self.drop)
        return view.quota_of(view.attention, number)

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"] | Survivors:
        left = hosted.total(budget)
        if left in (0, view.total):
            return ~view.visual if left == 0 else torch.ones_like(view.visual)
        kept, here, hidden = view.keep_top(view.attention, budget), view.rows, view.hidden
        merged = merging.absorbed(
            hidden[here], view.attention[here], kept[here], self.follow == "released", left
        )
        rows = ops.marked(kept, len(kept) - view.total + left)
        where = ops.marked(view.visual[rows], left)
        return Survivors(rows, hidden[rows].index_copy(0, where, merged.to(hidden.dtype)))
