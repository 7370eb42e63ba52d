"""Keeps evenly spaced tokens of every frame: the control that sees everything, at lower resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import ops
from tokenprune.strategy import VisionStage
from tokenprune.tokens import VisualTokens


def evenly_spaced(counts: Int[Tensor, "f"], budget: Int[Tensor, "f"]) -> Bool[Tensor, "f m"]:
    """Marks `budget[f]` of the first `counts[f]` entries of each row, centred in equal intervals."""
    entries = torch.arange(int(counts.max()) if len(counts) else 0, device=counts.device)
    centre = ((2 * entries + 1) * counts.unsqueeze(-1)) // (2 * budget.clamp(min=1).unsqueeze(-1))
    wanted = entries < budget.unsqueeze(-1)
    marked = torch.zeros_like(wanted)
    rows = torch.arange(len(counts), device=counts.device).unsqueeze(-1).expand_as(wanted)
    marked[rows[wanted], centre[wanted]] = True
    return marked


@dataclass(frozen=True)
class Uniform(VisionStage, name="uniform"):
    """Control: tokens evenly spaced in raster order, as many from every frame."""

    keep: float = 0.25  # fraction of visual tokens kept

    def __post_init__(self) -> None:
        ops.fraction("uniform.keep", self.keep)

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        return ops.evenly(ops.count(len(tokens), self.keep), tokens.counts)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        _, valid = ops.by_frame(tokens.slot, tokens.counts)
        return tokens[evenly_spaced(tokens.counts, budget)[valid]]
