"""DivPrune keeps the tokens of a video that are farthest from each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, picking
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, VisionStage
from tokenprune.tokens import VisualTokens


@exact
@torch.no_grad()  # it ranks
def picks(
    vectors: Float[Tensor, "f m d"], valid: Bool[Tensor, "f m"], budget: Int[Tensor, "f"]
) -> Int[Tensor, "f k"]:
    """The first `budget[f]` picks of each frame by itself, -1 behind the last."""
    frames, tokens = valid.shape
    frame = torch.arange(frames, device=valid.device).unsqueeze(1)
    distance = 1 - vectors @ vectors.mT
    itself = torch.eye(tokens, dtype=torch.bool, device=valid.device)
    lonely = distance.masked_fill(itself | ~valid.unsqueeze(1), torch.inf).amin(-1)

    def nearer(near: Tensor, place: Tensor, before: int) -> Tensor:
        new = distance[frame.squeeze(1), place]
        return near.minimum(new) if before else new

    return picking.one_by_one(lonely, nearer, budget, valid)


@dataclass(frozen=True)
class DivPrune(VisionStage, Adjustable, name="divprune"):
    """DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models (Alvar et al., CVPR 2025), https://arxiv.org/abs/2503.02175

    First the token whose nearest neighbour is farthest, then again and again the one that is
    farthest from all that are kept: a greedy solution of the max-min diversity problem, by cosine
    distance. All tokens of the video compete, so a frame may lose every one; kept tokens go on in
    their order. With an allocator the total stays DivPrune's own, and a frame whose budget is used
    up takes part no more.

    Decisions: it acts between projector and LLM, as published. The paper calls its solution exact;
    it is greedy, and at most twice as bad. The count rounds half to even. A vector of zeros is
    similar to nothing, not even to another one.

    Differs from the authors' code: distances are fp32, a kept token is no candidate any more (there
    a video of few different tokens is left with fewer than asked for), text is never taken for
    visual tokens, and no matrix of all pairs of a video is made. Results are the same where no
    distances are equal.

    Args:
        keep: fraction of tokens kept, 0 to 1 (published: 0.1 for videos, 0.098 for images)
        scope: which tokens compete, those of the "video" or those of each "frame"
    """

    keep: float = 0.1
    scope: Literal["video", "frame"] = "video"

    mixes_frames: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("divprune.keep", self.keep)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        counts = tokens.counts
        if self.scope == "frame":
            return ops.count(counts, self.keep)
        vectors, number = picking.unit(tokens.features), ops.count(len(tokens), self.keep)
        kept = picking.farthest(vectors, tokens.frame, None, number).sort().values
        quota = hosted.counts(tokens.frame[kept], tokens.frames)
        return hosted.note_choice(hosted.note_total(quota, number), tokens, kept)

    def retaining(self, ratio: float, extent: Extent) -> DivPrune:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        if (kept := hosted.choice(budget, tokens)) is not None:
            return tokens[kept]
        vectors = picking.unit(tokens.features)
        if self.scope == "video":
            kept = picking.farthest(vectors, tokens.frame, budget, hosted.total(budget))
            return tokens[kept.sort().values]
        frames, valid = ops.by_frame(vectors, tokens.counts)
        return tokens[picking.rows(picks(frames, valid, budget), tokens.counts, budget)]
