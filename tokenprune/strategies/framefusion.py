"""FrameFusion merges what stays the same from frame to frame, then drops what is least attended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import hosted, ops, resembling
from tokenprune.strategy import Adjustable, Condenser, Extent, PrefillStage, StrategyError
from tokenprune.tokens import SequenceView, Survivors, VisualTokens

# drops out of what event 0 may remove, but for the last bit, which the released counts have
RELEASED_DEPTH = 28
Event = Literal["merge", "prune", "nothing"]


def required(shares: Sequence[float], cost: float, depth: int) -> float:
    """The share to remove behind events with `shares`, for a mean over layers of `cost`."""
    alive, spent = 1.0, 0.0
    for share in shares:
        alive = alive * (1 - share)
        spent = spent + alive
    if depth * cost < spent:
        enough = math.ceil(spent / depth * 1e4) / 1e4
        spent = f"framefusion.cost={cost:g} is spent before layer {len(shares)} of {depth}"
        raise StrategyError(f"{spent}: write framefusion.cost={enough:g} or more")
    rest = (depth * cost - spent) / ((depth - len(shares)) * alive)
    return 0.0 if rest > 1 else 1 - rest


def due(counts: Sequence[int], cost: float, enough: float, depth: int) -> tuple[Event, float]:
    """What the next event does, to which share of the tokens at most.

    Replays the events from how many tokens came, and were left by each: there is no state.
    """
    shares: list[float] = []
    for before, after in pairwise(counts):
        most = required(shares, cost, depth if shares else RELEASED_DEPTH)
        # an event behind the last that merged has pruned; or it merged all it could
        if (shares and shares[-1] < enough) or before - after >= int(most * before):
            return "nothing", 0.0
        shares.append((before - after) / before)
    most = required(shares, cost, depth if shares else RELEASED_DEPTH)
    if shares and shares[-1] < enough:
        return "prune", most
    return ("merge" if int(most * counts[-1]) else "nothing"), most


@dataclass(frozen=True)
class FrameFusion(Condenser, PrefillStage, Adjustable, name="framefusion"):
    """FrameFusion: Combining Similarity and Importance for Video Token Reduction on Large Vision Language Models (Fu et al., ICCV 2025), https://arxiv.org/abs/2501.01986

    A token that is like the one before it in its cell of the frame (cosine, fp32) merges into it,
    runs of them into their plain mean: as they enter layer 0, and by their hidden states before
    each layer, until few do. Then those that the last prompt token attends to least go, once. All
    frames are one pool; the first loses none by merging; a merged token has its first one's place.

    Decisions: what is due follows from how many tokens each layer below saw. Tokens that another
    stage took at the input count as merged there. Frames have no share for an allocator to move.

    Differs from the authors' code: events come behind the MLP of a layer instead of before it, so
    that there is no `follow`; the depth is the model's, not 28; newlines are text; rows of zeros
    are like nobody.

    Args:
        cost: fraction of visual tokens that lives, 0 to 1, as a mean over layers
        similarity: smallest cosine at which a token merges, 0 to 1
        enough: share of the tokens, 0 to 1; an event that merges less is the last to merge
    """

    reallocates: ClassVar[bool] = False
    mixes_frames: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    positions = "original"
    cost: float = 0.3
    similarity: float = 0.6
    enough: float = 0.1

    def __post_init__(self) -> None:
        ops.fraction("framefusion.cost", self.cost)
        ops.fraction("framefusion.similarity", self.similarity)
        ops.fraction("framefusion.enough", self.enough)

    def layers(self, depth: int) -> tuple[int, ...]:
        return tuple(range(1, depth))

    def condense(self, tokens: VisualTokens) -> VisualTokens:
        came = tokens.frames * tokens.cells
        least = came - int(required((), self.cost, RELEASED_DEPTH) * came)
        order, similar = resembling.to_previous(tokens.features, tokens.slot)
        frame = tokens.frame.long().index_select(0, order)

        def tally(first: Bool[Tensor, "n"]) -> Int[Tensor, "f"]:
            return frame.new_zeros(tokens.frames).scatter_add(0, frame, first.long())

        first, counts = resembling.begun(similar, self.similarity, least, tally)
        if (number := sum(hosted.numbers(counts))) == len(tokens):
            return tokens.with_features(tokens.features, torch.arange(number, device=order.device))
        runs = resembling.Runs.of(order, first, number)
        left = tokens[runs.rows]
        hosted.note_counts(left.frame, hosted.numbers(counts))
        return left.with_features(runs.means(tokens.features), runs.members)

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        event, most = self._due(view)
        if event == "prune":
            return view.quota_of(view.attention, ops.count(view.total, 1 - most))
        if event == "nothing" or (runs := self._runs(view, most)) is None:
            return view.counts
        visual = runs.begin[len(view.frame) - view.total :]  # text comes before all cells
        return hosted.note_choice(view.tally(visual), view, runs)

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"] | Survivors:
        event, most = self._due(view)
        if event == "nothing" or hosted.total(budget) == view.total:
            return view.everything
        if event == "prune":
            return view.keep_top(view.attention, budget)
        runs = hosted.choice(budget, view) or self._runs(view, most)
        if runs is None:
            return view.everything
        return Survivors(runs.rows, runs.means(view.hidden).to(view.hidden.dtype))

    def retaining(self, ratio: float, extent: Extent) -> FrameFusion:
        if ratio < (least := 1 / extent.depth) - 1e-9:
            wrong = f"framefusion retains {least:.1%} to 100.0% here, not {ratio:.1%}"
            raise StrategyError(f"{wrong}: the first of {extent.depth} layers takes as much")
        return replace(self, cost=ratio)

    def _due(self, view: SequenceView) -> tuple[Event, float]:
        came = max(view.frames * view.cells, view.full)
        return due([came, *view.history], self.cost, self.enough, view.depth)

    def _runs(self, view: SequenceView, most: float) -> resembling.Runs | None:
        """What merges, at most the share `most` of the visual rows; text is in runs of its own."""
        cell = torch.where(view.visual, view.slot, ~view.position)  # a row of text is alone in it
        order, similar = resembling.to_previous(view.hidden, cell)
        least = len(order) - int(most * view.total)
        tally = partial(torch.sum, dim=0, keepdim=True)
        first, number = resembling.begun(similar, self.similarity, least, tally)
        (left,) = hosted.numbers(number)
        return None if left == len(order) else resembling.Runs.of(order, first, left)
