"""DART keeps a few pivots and, for each of them, the visual tokens that resemble it least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, picking
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, PrefillStage, StrategyError
from tokenprune.tokens import SequenceView


@exact
def resemblance(states: Float[Tensor, "s d"], pivots: Int[Tensor, "p"]) -> Float[Tensor, "p s"]:
    """Cosine in float32 of every pivot with every row."""
    states = states.float()
    product, squared = states[pivots] @ states.T, states.norm(dim=-1).square()
    own = squared[pivots].unsqueeze(-1).expand_as(product)
    return ops.cosine_of(product, own, squared.expand_as(product))


def shared_out(
    similarity: Float[Tensor, "p v"],
    kept: Bool[Tensor, "v"],
    frame: Int[Tensor, "v"],
    room: Int[Tensor, "f"] | None,
    shares: Sequence[int],
) -> Bool[Tensor, "v"]:
    """`kept` and, for each pivot in turn, the `shares` least similar rows of those that are left.

    Never more than `room[f]` of frame f, if there is a limit.
    """
    # each pivot chooses from what those before it left: inherent, and there are a handful
    for row, share in zip((-similarity).unbind(), shares, strict=True):
        if room is None:
            least = ops.ranking(row.masked_fill(kept, -torch.inf))[:share]
            kept = kept.index_fill(0, least, True)
        else:
            left = room - room.new_zeros(len(room)).scatter_add(0, frame, kept.long())
            kept = kept | picking.keep_within(row, frame, left, share, ~kept)
    return kept


@dataclass(frozen=True)
class DART(PrefillStage, Adjustable, name="dart"):
    """Stop Looking for Important Tokens in Multimodal Language Models: Duplication Matters More (Wen et al., EMNLP 2025), https://arxiv.org/abs/2502.11494

    Before layer `layer`, the rows whose keys in the layer below have the largest L1 norm (fp32, all
    key heads) are pivots: some visual ones, which are kept, and some of the text behind the video,
    which is kept anyway. Each pivot in turn adds an equal share of the visual rows that are left,
    those with the smallest cosine to it, and the last one the remainder. No attention is read. All
    frames are one pool; text always stays; kept rows keep their positions, and nothing is re-ranked
    at decode. Under an allocator's budget a frame that is full is closed, to pivots too.

    Decisions: exactly `keep` of the tokens live, the pivots among them; visual pivots come first,
    then text, each by falling norm; the cosine is of the states that enter the layer. The paper
    keeps whatever is far from some pivot, which sets no number; every release goes in turns.

    Differs from the authors' code (`follow="released"` restores all three): there every pivot adds
    `keep / pivots` of the tokens, rounded down, to the visual pivots (132 for 128 of 576); pivots
    come in the order of a CPython set of their row numbers; and the cosine is taken behind the
    model's final norm. With a norm of zero it is 0 here and no number there.

    Args:
        layer: first LLM layer (0-based, from 1) that runs without the dropped tokens (K)
        keep: fraction of visual tokens kept, 0 to 1
        visual_pivots: how many visual tokens are pivots, at least 1
        text_pivots: how many rows of the text behind the video are pivots, as far as it goes
        follow: "paper", or "released" for the authors' code as described above
    """

    mixes_frames: ClassVar[bool] = True

    layer: int = 2
    keep: float = 0.5
    visual_pivots: int = 4
    text_pivots: int = 4
    follow: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        ops.fraction("dart.keep", self.keep)
        if self.visual_pivots < 1 or self.text_pivots < 0:
            raise ValueError(
                f"dart.visual_pivots={self.visual_pivots} and dart.text_pivots={self.text_pivots} "
                "are not numbers of pivots: write at least 1 visual one and 0 of text"
            )

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        total = view.total
        number = ops.count(total, self.keep)
        if number < total and self.follow == "released":
            pivots = min(self.visual_pivots, total)
            together = pivots + min(self.text_pivots, len(view.words))
            number = min(total, pivots + number // together * together)
        kept = self._select(view, None, number)
        return hosted.note_choice(view.tally(view.rows[ops.marked(kept, number)]), view, kept)

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        kept = hosted.choice(budget, view)
        if kept is None:
            kept = self._select(view, budget, hosted.total(budget))
        return (~view.visual).scatter(0, view.rows, kept)

    def retaining(self, ratio: float, extent: Extent) -> DART:
        whole = self.layer / extent.depth  # of the layers, those below see every token
        if whole >= 1.0 or ratio < whole - 1e-9:
            raise StrategyError(
                f"dart retains {whole:.1%} to 100.0% here, not {ratio:.1%}: below "
                f"dart.layer={self.layer} all tokens live in each of the {extent.depth} layers"
            )
        keep = max(0.0, min(1.0, (ratio - whole) / (1.0 - whole)))
        if self.follow == "released" and keep < 1.0:
            total, together = extent.frames * extent.cells, self.visual_pivots + self.text_pivots
            shares = max(0, round((keep * total - self.visual_pivots) / together))
            keep = min(1.0, shares * together / total)
        return replace(self, keep=keep)

    def _select(
        self, view: SequenceView, room: Int[Tensor, "f"] | None, total: int
    ) -> Bool[Tensor, "v"]:
        """`total` of the visual rows, at most `room[f]` of frame f, if there is a limit."""
        rows, behind = view.rows, view.words
        if total in (0, len(rows)):  # nothing is read for that
            return torch.full_like(rows, total > 0, dtype=torch.bool)
        norm, frame = view.keys.float().abs().sum(dim=(1, 2)), view.frame[rows]
        number = min(self.visual_pivots, total)
        kept = picking.keep_within(norm[rows], frame, room, number)
        order = ops.ranking(norm[rows])
        words = behind[ops.ranking(norm[behind])[: self.text_pivots]]
        pivots = torch.cat([rows[order[ops.marked(kept[order], number)]], words])
        left = total - number
        if left == 0:
            return kept
        released = self.follow == "released"
        if released:  # as CPython has the rows in a set
            pivots = torch.tensor(list(set(pivots.tolist())), device=rows.device)
        states = view.normed if released else view.hidden
        share = left // len(pivots)
        shares = [share] * (len(pivots) - 1) + [left - share * (len(pivots) - 1)]
        return shared_out(resemblance(states, pivots)[:, rows], kept, frame, room, shares)
