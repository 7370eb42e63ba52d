"""CDPruner keeps tokens that matter to the question and differ from each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, picking
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, StrategyError, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

FLOOR = 1e-12  # what a token adds to the kept ones, at least, to be picked for it


@exact
@torch.no_grad()  # it ranks
def relevances(
    image: Float[Tensor, "n e"], text: Float[Tensor, "t e"], sign: int = 1, theta: float = 0.0
) -> Float[Tensor, "n"]:
    """How much tokens matter to texts: their mean cosine, as 0 to 1 over all of the video.

    `sign` -1 turns it round, as dense features of CLIP need it (the released rule). `theta` above 0
    sharpens it. Without a text, or where none matters more than another, all are 1.
    """
    if not len(image) or not len(text):
        return image.new_ones(len(image), dtype=torch.float32)
    cosine = sign * picking.directed(image, picking.unit(text).mean(0))
    least, most = cosine.aminmax()
    scaled = (cosine - least + 1e-6) / (most - least)
    scaled = torch.where(most - least > picking.ROUNDING, scaled, 1.0)
    return (theta / (2 * (1 - theta)) * scaled).exp() if theta else scaled


@exact
@torch.no_grad()  # it ranks
def picks(
    vectors: Float[Tensor, "g m d"],
    relevance: Float[Tensor, "g m"],
    number: int,
    frame: Int[Tensor, "g m"] | None,
    room: Int[Tensor, "f"],
    free: Bool[Tensor, "g m"],
) -> Int[Tensor, "g k"]:
    """The most probable tokens under a determinantal point process, as `picking.greedily` has them.

    The kernel is the cosine of two tokens times the relevance of both. Where nothing is left that
    the picks of a group do not span, the most relevant come next. No `frame`: groups are frames.
    """
    group, width = torch.arange(len(vectors), device=vectors.device), vectors.shape[-1]
    turned, weighted, spanned = vectors.mT, vectors * relevance.unsqueeze(-1), -1 / relevance
    basis = vectors.new_empty(len(vectors), min(number, width), vectors.shape[1])

    def left(gain: Tensor, place: Tensor, before: int) -> Tensor:
        if before + 1 >= width:  # no more dimensions
            return spanned
        row = torch.bmm(weighted[group, place].unsqueeze(1), turned) * relevance.unsqueeze(1)
        if before:
            known = basis[:, :before]
            row = row.baddbmm(known[group, :, place].unsqueeze(1), known, alpha=-1)
        new = row.squeeze(1) / gain.gather(1, place.unsqueeze(1)).clamp(min=FLOOR).sqrt()
        basis[:, before] = new
        rest = gain - new.square()  # of what is spanned already it stays below zero
        return torch.where(rest > FLOOR, rest, spanned)

    gain = (relevance * torch.linalg.vector_norm(vectors, dim=-1)).square()
    gain = torch.where(gain > FLOOR, gain, spanned)
    if frame is None:
        return picking.one_by_one(gain, left, room, free)
    return picking.greedily(gain, left, number, frame, room, free)


@dataclass(frozen=True)
class CDPruner(VisionStage, TowerReader, Adjustable, name="cdpruner"):
    """Beyond Attention or Similarity: Maximizing Conditional Diversity for Token Pruning in MLLMs (Zhang et al., NeurIPS 2025), https://arxiv.org/abs/2506.10967

    Per frame, the most probable set of tokens under a determinantal point process whose kernel is
    the cosine of two tokens times the relevance of both to the question, picked greedily. Kept
    tokens go on in their order. With an allocator every frame gets its own number of picks.

    Decisions: relevance is the cosine of projected tokens with the embeddings of the text behind
    the video, mean over its rows and scaled to 0 to 1 over all frames: the one reading that every
    host allows. The published LLaVA-Video numbers were made with code that is not released. Where a
    frame's kept tokens span all of it, the most relevant of the others follow; relevances that are
    all equal count as 1.

    Differs from the authors' code: there relevance is read from CLIP's text tower, and with the
    opposite sign. Checkpoints of video LLMs do not hold that tower, so `follow="released"` is
    refused; its rule stands in `relevances(..., sign=-1)`. All scores are fp32, no kernel is
    materialised, and a set beyond the rank of the features is as large as it should be (there
    square roots of negative numbers leave it smaller).

    Args:
        keep: fraction of each frame's tokens kept, 0 to 1
        relevance: of tokens to the "text" behind the video, or "none": diversity alone
        theta: sharpens relevance, 0 (not at all) to below 1
        scope: which tokens compete, those of each "frame" or, unpublished, of the "video"
        follow: "paper"; "released" is refused, it needs a text tower that no checkpoint here has
    """

    keep: float = 0.25
    relevance: Literal["text", "none"] = "text"
    theta: float = 0.0
    scope: Literal["frame", "video"] = "frame"
    follow: Literal["paper", "released"] = "paper"

    mixes_frames: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("cdpruner.keep", self.keep)
        if not 0.0 <= self.theta < 1.0:
            raise StrategyError(
                f"cdpruner.theta={self.theta} sharpens nothing: write a number from 0 to below 1"
            )
        if self.follow == "released":
            raise StrategyError(
                "cdpruner.follow=released reads CLIP's text tower, which checkpoints of video LLMs "
                "do not hold: write cdpruner.follow=paper"
            )

    def signals(self) -> Signals:
        return Signals(text="behind" if self.relevance == "text" else None)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        if self.scope == "frame":
            return ops.count(tokens.counts, self.keep)
        rows = self._picked(tokens, tokens.counts, ops.count(len(tokens), self.keep))
        return hosted.counts(tokens.frame[rows], tokens.frames)

    def retaining(self, ratio: float, extent: Extent) -> CDPruner:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        return tokens[self._picked(tokens, budget, hosted.total(budget))]

    def _picked(self, tokens: VisualTokens, room: Int[Tensor, "f"], total: int) -> Int[Tensor, "k"]:
        """The rows of `total` tokens, at most `room[f]` of frame f."""
        text = self.recorded(tokens, "text") if self.relevance == "text" else tokens.features[:0]
        weight = relevances(vectors := picking.unit(tokens.features), text, theta=self.theta)
        if self.scope == "video":
            every, frame = (vectors.unsqueeze(0), weight.unsqueeze(0)), tokens.frame.unsqueeze(0)
            return picks(*every, total, frame, room, frame >= 0)[0].sort().values
        vectors, free = ops.by_frame(vectors, tokens.counts)
        weight, _ = ops.by_frame(weight, tokens.counts)
        order = picks(vectors, weight, hosted.most(room), None, room, free)
        return picking.rows(order, tokens.counts, room)
