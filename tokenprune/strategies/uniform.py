"""Keeps evenly spaced tokens of every frame: the control that sees everything, at lower resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import ops
from tokenprune.strategy import Adjustable, Extent, VisionStage
from tokenprune.tokens import VisualTokens


def evenly_spaced(valid: Bool[Tensor, "f m"], budget: Int[Tensor, "f"]) -> Bool[Tensor, "f m"]:
    """Marks `budget[f]` of the valid entries of each row, in the centres of as many equal intervals."""
    count, place = valid.sum(-1, keepdim=True).clamp(min=1), valid.cumsum(-1)
    before, upto = (2 * budget.unsqueeze(-1) * torch.stack([place - 1, place]) + count - 1) // (
        2 * count
    )
    return valid & (before < upto)  # the numbers of centres before and up to an entry


@dataclass(frozen=True)
class Uniform(VisionStage, Adjustable, name="uniform"):
    """Control: tokens evenly spaced in raster order, as many from every frame."""

    keep: float = 0.25  # fraction of visual tokens kept

    def __post_init__(self) -> None:
        ops.fraction("uniform.keep", self.keep)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.evenly(ops.count(len(tokens), self.keep), tokens.counts)

    def retaining(self, ratio: float, extent: Extent) -> Uniform:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        _, valid = ops.by_frame(tokens.slot, tokens.counts)
        return tokens[evenly_spaced(valid, budget)[valid]]
