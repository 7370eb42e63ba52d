"""Reuse: patches that stay the same from frame to frame go through the vision tower once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.strategy import TowerReuser


def unchanged(patches: Float[Tensor, "f p v"], threshold: float) -> Bool[Tensor, "f p"]:
    """Whether no value of a patch differs by more than `threshold` from the frame before."""
    steps = (patches[1:] - patches[:-1]).abs().amax(-1) <= threshold
    return torch.cat([torch.zeros_like(patches[:1, :, 0], dtype=torch.bool), steps])


@dataclass(frozen=True)
class Reuse(TowerReuser, name="reuse"):
    """Ours: patches that equal those of the frame before skip the vision tower.

    Still backgrounds, slides and held shots cost a tower as much as motion does, and their features
    are known already. Of frames that stand still as a whole the result is exact. Each frame is
    compared with the one before it, so a fade that stays below the threshold from frame to frame is
    not seen: keep the threshold near the noise of the frames.

    Args:
        threshold: the largest difference of a value of a patch, in the tower's input, that counts
            as equal; of values from -1 to 1, one of 255 grey levels is 0.0078
    """

    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.threshold >= 0.0:
            raise StrategyError(f"reuse.threshold={self.threshold}: write 0 or more")

    def taken(self, patches: Float[Tensor, "f p v"]) -> Bool[Tensor, "f p"]:
        return unchanged(patches, self.threshold)
