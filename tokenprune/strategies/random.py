"""Keeps tokens drawn at random: the control every method has to beat at the same measured budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune import ops
from tokenprune.strategy import Adjustable, Extent, VisionStage
from tokenprune.tokens import VisualTokens


@dataclass(frozen=True)
class Random(VisionStage, Adjustable, name="random"):
    """Control: tokens drawn uniformly at random, as many from every frame.

    The draw depends on `seed` and the number of frames and tokens alone, so a run can be repeated bit for bit.
    """

    keep: float = 0.25  # fraction of visual tokens kept
    seed: int = 0  # of the draw

    def __post_init__(self) -> None:
        ops.fraction("random.keep", self.keep)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.evenly(ops.count(len(tokens), self.keep), tokens.counts)

    def retaining(self, ratio: float, extent: Extent) -> Random:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        draw = torch.rand(len(tokens), generator=torch.Generator().manual_seed(self.seed)).to(
            tokens.frame.device
        )
        scores, valid = ops.by_frame(draw, tokens.counts)
        return tokens[ops.keep_top(scores, budget, valid)[valid]]
