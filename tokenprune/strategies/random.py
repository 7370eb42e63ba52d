"""Keeps tokens drawn at random: the control to beat at the same measured budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.strategy import Adjustable, Extent, VisionStage
from tokenprune.tokens import VisualTokens


@dataclass(frozen=True)
class Random(VisionStage, Adjustable, name="random"):
    """Control: tokens drawn uniformly at random, as many from every frame.

    The draw depends on `seed` and the number of frames and tokens alone, so a run can be repeated
    bit for bit.

    Args:
        keep: fraction of all visual tokens kept, 0 to 1
        seed: of the draw
    """

    keep: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        ops.fraction("random.keep", self.keep)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.evenly(ops.count(len(tokens), self.keep), tokens.counts)

    def retaining(self, ratio: float, extent: Extent) -> Random:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        # on the host, so that every device draws the same
        draw = torch.rand(len(tokens), generator=torch.Generator().manual_seed(self.seed))
        if hosted.total(budget) == len(tokens):
            return tokens
        counts = hosted.here(tokens.counts)
        rows = ops.top_rows(ops.by_frame(draw, counts)[0], counts, hosted.here(budget))
        return tokens[hosted.moved(rows, tokens.frame.device)]
