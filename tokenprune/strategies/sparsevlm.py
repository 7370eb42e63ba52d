"""SparseVLM lets words of the question rate the video, and recycles some of what it drops."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, repeat
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.clustering import condensed
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, PrefillStage, Settled, StrategyError
from tokenprune.tokens import TEXT, SequenceView, Survivors


@exact
def relevance(visual: Float[Tensor, "v d"], text: Float[Tensor, "t d"]) -> Float[Tensor, "t"]:
    """How much the video resembles each word; sums to 1."""
    return (visual.float() @ text.float().T).softmax(-1).mean(0)


def raters(view: SequenceView) -> Int[Tensor, "r"]:
    """Which of the words behind the video rate it: the same ones at every event of a prompt."""
    if not len(view.words):
        raise StrategyError("sparsevlm rates by words behind the video: put some there")
    shown, inputs = ops.marked(view.entered >= 0, view.full), view.inputs
    likeness = relevance(inputs[shown], inputs[view.position[view.words]])
    best = likeness.argmax(0, keepdim=True)  # rates also where none is above their mean
    return (likeness > likeness.mean()).index_fill(0, best, True).nonzero().squeeze(-1)


def event(asked: int, there: int, recycle: bool) -> tuple[int, int, int]:
    """How many of the rows are kept, how many are recycled, and into how many tokens."""
    number = min(asked, there - recycle)  # something is always recycled
    pool = int(0.3 * (there - number)) + 1
    return number, recycle * pool, recycle * (pool // 10 + 1)


@dataclass(frozen=True)
class SparseVLM(PrefillStage, Adjustable, name="sparsevlm"):
    """SparseVLM: Visual Token Sparsification for Efficient Vision-Language Model Inference (Zhang et al., ICML 2025), https://arxiv.org/abs/2410.04417

    Words behind the video that resemble it more than their mean, as they enter layer 0, rate all
    frames: after some layers those rows live that they attend to most (fp32, mean over heads and
    raters). The best three tenths of the others are clustered into a tenth as many tokens.

    Decisions: fixed counts and means, which made the published numbers (the paper goes by rank, and
    sums up). A new token is carried by its centre. Of equal densities the lower row's is larger.

    Differs from the authors' code (`follow="released"` restores it): rows keep their positions
    instead of being counted anew, and new tokens stand in their centres' places instead of behind
    what is kept. Only raters' rows of attention are computed. Version 2 is not offered.

    Args:
        keep: fraction of layer 0's tokens kept by each event, before recycling
        after: layers behind which the events come, of 32; in other models at the same share
        count: "fixed" for `keep`, or "rank": as many as the rank of the raters' attention says
        rank: factor of that rank, and what is added to it
        recycle: make a few new tokens of those that are dropped
        merge: the "mean" of a cluster's rows, or their "sum" as the paper has it
        follow: "paper", or "released" for the authors' code as described above
    """

    reallocates: ClassVar[bool] = False
    mixes_frames: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    keep: tuple[float, ...] = (0.521, 0.347, 0.191)
    after: tuple[int, ...] = (2, 6, 15)
    count: Literal["fixed", "rank"] = "fixed"
    rank: tuple[float, float] = (1.0, 0.0)
    recycle: bool = True
    merge: Literal["mean", "sum"] = "mean"
    follow: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        keep, after = [*self.keep], [*self.after]
        fits = len(keep) == len(after) > 0 and after == sorted({*after})
        if not (fits and 0 < min(keep) <= max(keep) <= 1 and 0 <= after[0] <= after[-1] < 31):
            given = f"sparsevlm.keep={keep} with sparsevlm.after={after}"
            raise ValueError(f"{given}: write fractions and as many layers, ascending from 0 to 30")

    @property
    def positions(self) -> Settled:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "contiguous" if self.follow == "released" else "original"

    def layers(self, depth: int) -> tuple[int, ...]:
        return tuple(self._events(depth))

    def _events(self, depth: int) -> dict[int, float]:
        """The fraction that each event keeps, by the layer before which it comes."""
        first = map(lambda layer, depth: layer * depth // 32 + 1, self.after, repeat(depth))
        return dict(zip(first, self.keep, strict=True))

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        choice = self._choose(view)
        left = view.rows if choice is None else choice[0]
        return hosted.note_choice(view.tally(left), view, choice)

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"] | Survivors:
        choice = hosted.choice(budget, view) or self._choose(view)
        if choice is None or hosted.total(budget) == view.total:
            return view.everything
        (left, carriers, made), text = choice, len(view.frame) - view.total
        rows = ops.marked((view.frame == TEXT).index_fill(0, left, True), text + len(left))
        rows = view.in_order(rows, last=carriers if self.follow == "released" else None)
        return Survivors(rows, view.hidden.index_copy(0, carriers, made)[rows])

    def _choose(self, view: SequenceView) -> tuple[Tensor, Tensor, Tensor] | None:
        """Rows that live, those of them that carry new tokens, and these."""
        share, rows = self._events(view.depth).get(view.layer), view.rows
        if share is None or not len(rows):
            return None
        words = view.words[hosted.once(view.entered, "raters", partial(raters, view))]
        order = rows[ops.ranking(view.attend(words)[rows])]
        number = ops.count(view.full, share)
        if self.count == "rank":  # of each rater's row by itself: they are few
            table = torch.stack([*map(view.attend, words.split(1))])[:, rows]
            number = max(0, int(self.rank[0] * int(torch.linalg.matrix_rank(table)) + self.rank[1]))
        number, pool, clusters = event(number, len(rows), self.recycle)
        pooled = order[number : number + pool]
        centre, made = condensed(view.hidden[pooled], clusters, clusters, self.merge)
        carriers = pooled[centre]
        return torch.cat([order[:number], carriers]), carriers, made

    def retaining(self, ratio: float, extent: Extent) -> SparseVLM:
        retained, total = partial(self._retained, extent), extent.frames * extent.cells
        if ratio < (least := retained(0.0)) - 1e-9:
            span = f"sparsevlm retains {least:.1%} to 100.0% here, not {ratio:.1%}"
            raise StrategyError(f"{span}: no event is early")
        if self.count == "fixed" and abs(retained(1.0) - ratio) * total <= 1:
            return self
        times = ops.solve(retained, ratio - 1e-9, high=1 / min(self.keep))
        keep = times * torch.tensor(self.keep, dtype=torch.double)
        return replace(self, keep=tuple(keep.clamp(max=1).tolist()), count="fixed")

    def _retained(self, extent: Extent, times: float) -> float:
        """Mean over layers of what lives, recycled tokens too, if `keep` is multiplied."""
        events, total = self._events(extent.depth), extent.frames * extent.cells
        left, seen = total, total * min(events)
        # every event finds what the one before it left
        for layer, above in pairwise([*events, extent.depth]):
            asked = ops.count(total, min(1.0, times * events[layer]))
            left = sum(event(asked, left, self.recycle)[::2])
            seen += left * (above - layer)
        return seen / (extent.depth * total)
