"""Keeps evenly spaced tokens of every frame: the control that sees all, at lower resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.strategy import Adjustable, Extent, VisionStage
from tokenprune.tokens import VisualTokens


@dataclass(frozen=True)
class Uniform(VisionStage, Adjustable, name="uniform"):
    """Control: tokens evenly spaced in raster order, as many from every frame.

    Args:
        keep: fraction of all visual tokens kept, 0 to 1
    """

    keep: float = 0.25

    def __post_init__(self) -> None:
        ops.fraction("uniform.keep", self.keep)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.evenly(ops.count(len(tokens), self.keep), tokens.counts)

    def retaining(self, ratio: float, extent: Extent) -> Uniform:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        if hosted.total(budget) == len(tokens):
            return tokens
        return tokens[ops.spaced_rows(tokens.counts, budget)]
