"""DyToK gives keyframes more tokens, by the attention of the model itself or of an assistant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.precision import exact
from tokenprune.strategy import Allocator, StrategyError
from tokenprune.tokens import LastRow, Probe


@exact
def frame_weights(rows: LastRow, frame: Int[Tensor, "n"], frames: int) -> Float[Tensor, "f"]:
    """How much the last prompt token looks at each frame; sums to 1.

    Per head a softmax over visual keys only, so that heads which ignore the video count as much as
    those which look; then the mean over heads, over the tokens of a frame, and over layers (section
    3.2, eq. 2 and 3).
    """
    return mean_of_frames(attended(rows).mean((0, 1)), frame, frames)


@exact
def attended(rows: LastRow) -> Float[Tensor, "l h n"]:
    """The last row's attention of each layer and head over visual keys alone."""
    layers, heads, width = rows.queries.shape
    queries, keys = rows.queries.float() * width**-0.5, rows.keys.float().flatten(0, 1)
    grouped = queries.reshape(len(keys), -1, width)  # query heads by the key head they share
    return torch.bmm(grouped, keys.mT).softmax(dim=-1).view(layers, heads, -1)


def mean_of_frames(
    values: Float[Tensor, "n"], frame: Int[Tensor, "n"], frames: int
) -> Float[Tensor, "f"]:
    """Mean value of each frame's tokens, as shares of a whole."""
    counts = hosted.counts(frame, frames)
    if len({*(hosted.known(counts) or ())}) == 1:
        weights = values.unflatten(0, (frames, -1)).mean(-1)
    else:
        sums = torch.zeros(frames, device=frame.device).index_add(0, frame, values)
        weights = sums / counts.clamp(min=1)
    return weights / weights.sum()


@dataclass(frozen=True)
class DyToK(Allocator, name="dytok"):
    """Less Is More, but Where? Dynamic Token Compression via LLM-Guided Keyframe Prior (NeurIPS 2025), https://arxiv.org/abs/2512.06866

    Decides how many tokens each frame gets, never which: compose it with one method that has a
    budget, as in `visionzip+dytok`. The guide is the model itself or, with `assistant=`, a smaller
    one of the same family; it sees the uncompressed prompt and stops after the last layer read.

    Decisions: the last third of `T` layers is `T - T // 3` to `T - 1` (16 to 23 of 24 as published;
    the paper states no range for other depths). Leftover tokens go to the largest remainders below
    the cap.

    Differs from the authors' code (`follow="released"` restores both): all layers are read when
    none are named, and remainders are handed out before the cap is looked at. An infeasible budget
    is an error there and here, but there it never returns.

    The probe costs as much as the prefill that it shortens where the guide is the model itself.
    `pool=2` and `layers` that end low are ours, to make it cheap: neither is the paper's.

    Args:
        layers: first and last guide layer read (0-based, inclusive); none: the last third
        pool: side of the squares of a frame's tokens that the guide sees as one, their mean; 1: it
            sees all tokens
        cap: most tokens of one frame, at least 1; none: as many as it has
        follow: "paper", or "released" for the authors' code as described above
    """

    layers: tuple[int, int] | None = None
    pool: int = 1
    cap: int | None = None
    follow: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ValueError(
                f"{self.name}.pool={self.pool} is no square of tokens: write 1 for all of them, or "
                "2 for a quarter"
            )
        if self.cap is not None and self.cap < 1:
            raise ValueError(
                f"{self.name}.cap={self.cap} leaves no frame a token: write a positive number, or "
                "none"
            )
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[1]:
            raise ValueError(
                f"{self.name}.layers={list(self.layers)} is not a range: write [FIRST,LAST], "
                "0-based and inclusive"
            )

    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        layers, seen = self.read(probe.depth), probe.pooled(self.pool)
        return frame_weights(seen.last_row(layers), seen.frame, seen.frames)

    def read(self, depth: int) -> range:
        """The layers of a guide with `depth` of them that are read. StrategyError past the last."""
        third = depth - max(1, depth // 3)
        default = 0 if self.follow == "released" else third
        first, last = self.layers or (default, depth - 1)
        if last >= depth:
            raise StrategyError(
                f"{self.name}.layers=[{first},{last}] does not fit the guide, which has {depth} "
                f"layers: write [FIRST,LAST] up to {depth - 1}, or leave it out for the last third"
            )
        return range(first, last + 1)
