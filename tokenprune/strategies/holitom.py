"""HoliTom merges static cells over scenes and time, then unattended rows inside the LLM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import absorbing, hosted, ops, standing
from tokenprune.strategy import Adjustable, Condenser, Extent, PrefillStage, TowerReader
from tokenprune.tokens import TEXT, SequenceView, Signals, Survivors, VisualTokens

Follow = Literal["paper", "released"]


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
        same = standing.unchanged(tokens.dense(), self.similarity)
        same, row = standing.known(same, tokens.frame, tokens.slot)  # everything else follows
        scenes, saved = standing.scenes(same, self.window)
        ratio = min(self.keep / ((len(tokens) - saved) / len(tokens)), 1.0)
        parts = [(scene, ops.count(len(scene.cells), ratio)) for scene in scenes]
        counts = hosted.per_frame(tokens.frame, tokens.frames)
        still = [len(scene.cells) for scene in scenes for _ in range(scene.frames)]
        number = [ops.count(n - m, ratio, "up") for n, m in zip(counts, still, strict=True)]

        features, scores, merged = tokens.features, saliency.float(), None
        released = self.follow == "released"
        if live := [part for part in parts if part[1]]:
            beta = self.beta if released else None
            merged = standing.merged(features, live, self.neighbours, row, tokens.cells, beta)
            scores = scores.index_fill(0, merged.tokens, -torch.inf)
        if lost := [i for scene, few in parts if not few for i in scene.rows(row, tokens.cells)]:
            scores = scores.index_fill(0, hosted.sent(lost, scores.device), -torch.inf)
        rows = best = standing.foremost(scores, counts, number)
        if merged:
            rows = torch.cat([best, merged.rows])
        place = torch.arange(len(rows), device=rows.device)
        if released:  # in a frame those that stand still come first
            order = rows + len(tokens) * (tokens.frame[rows] + (place < len(best)))
            rows = rows[order.argsort()]
        else:
            rows = rows.sort().values

        result, members = tokens[rows], torch.full_like(scores, -1, dtype=torch.long)
        members = members.index_copy(0, rows, place)
        for scene, few in parts:
            number[scene.first] += few
        hosted.note_counts(result.frame, number)
        if merged is None:
            return replace(result, members=members)
        centre = members.index_select(0, merged.rows)
        members = members.index_copy(0, merged.tokens, centre.index_select(0, merged.cluster))
        merging = result.features.index_copy(0, centre, merged.features.to(features.dtype))
        return result.with_features(merging, members)

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
        best = ops.ranking(view.attention.index_select(0, view.rows))[:number]
        rows = view.rows.index_select(0, best)
        return hosted.note_choice(view.tally(rows), view, (best, rows))

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"] | Survivors:
        left = hosted.total(budget)
        if left in (0, view.total):
            return ~view.visual if left == 0 else view.everything
        hidden, here, choice = view.hidden, view.rows, hosted.choice(budget, view)
        if choice is None:  # each frame has its own share
            attention, kept = view.attention, view.keep_top(view.attention, budget)
            best = ops.ranking(attention[here], kept[here])[:left]
            choice = best, here[best]
        best, own = choice
        merged = absorbing.absorbed(hidden.index_select(0, here), best, self.follow == "released")
        alive = (view.frame == TEXT).index_fill(0, own, True)
        rows = ops.marked(alive, len(alive) - view.total + left)
        hidden = hidden.index_copy(0, own, merged.to(hidden.dtype))
        return Survivors(rows, hidden.index_select(0, rows))
