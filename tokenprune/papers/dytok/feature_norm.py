"""Weighs frames by how long the features of their tokens are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tokenprune.strategies.dytok import mean_of_frames
from tokenprune.strategy import Allocator
from tokenprune.tokens import Probe


@dataclass(frozen=True)
class FeatureNorm(Allocator, name="feature_norm"):
    """DyToK, Table 14, "feature L2 norm" (NeurIPS 2025), https://arxiv.org/abs/2512.06866

    A frame's weight is the mean L2 norm of its tokens. No layer of the guide runs, and the question
    has no say.

    Decisions: the paper names the estimator, no formula. Features are those that enter the guide's
    language model, after projector and pooling.

    Args:
        cap: most tokens of one frame, at least 1; none: as many as it has
        follow: "paper", or "released" for the authors' remainders, as `dytok` has it
    """

    cap: int | None = None
    follow: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if self.cap is not None and self.cap < 1:
            raise ValueError(
                f"feature_norm.cap={self.cap} leaves no frame a token: write a positive number, "
                "or none"
            )

    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        norms = probe.features.float().norm(dim=-1)
        return mean_of_frames(norms, probe.frame, probe.frames)
