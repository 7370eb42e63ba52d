"""Windows of frames that look alike, and their cells that stay the same: pure parts of methods.

Axes: `n` tokens, `d` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import merging
from tokenprune.precision import exact

Follow = Literal["paper", "released"]


def refined(labels: Sequence[int]) -> list[list[int]]:
    """Windows as `[label, frames]`, from the label of every frame.

    The longest runs of a label stay, if longer than a frame. What lies between goes, from left to
    right, to the longer of the windows beside it, the left one where they are equal.
    """
    runs = [[label, len([*run])] for label, run in groupby(labels)]
    longest: dict[int, int] = {}
    for label, length in runs:
        longest[label] = max(length, longest.get(label, 2))
    windows, between = [], 0
    for label, length in runs:
        if length < longest[label]:
            between += length
            continue
        if windows and windows[-1][1] >= length:
            windows[-1][1] += between
        else:
            length += between
        if windows and windows[-1][0] == label:
            windows[-1][1] += length
        else:
            windows.append([label, length])
        between = 0
    if not windows:
        return [[0, between]]
    windows[-1][1] += between
    return windows


class Still(NamedTuple):
    """Cells, of which each has a run of tokens.

    static: whether a cell stays the same
    order: tokens, cell by cell
    start, number: the first place of each cell in that order, and how many it has
    """

    static: Bool[Tensor, "c"]
    order: Int[Tensor, "n"]
    start: Int[Tensor, "c"]
    number: Int[Tensor, "c"]

    def leaders(self, cell: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """The first token of each token's static cell; others have their own."""
        own = torch.arange(len(cell), device=cell.device)
        first = self.order[self.start.clamp(max=len(cell) - 1)]
        return torch.where(self.static[cell], first[cell], own)

    def means(self, features: Float[Tensor, "n d"], cell: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """The mean of each token's static cell; others are what they were."""
        sums = merging.sums_of_runs(features, self.order, self.start)
        means = sums / self.number.unsqueeze(-1)
        return torch.where(self.static[cell].unsqueeze(-1), means[cell], features)


@exact
@torch.no_grad()  # it ranks
def still(
    features: Float[Tensor, "n d"],
    cell: Int[Tensor, "n"],
    frames: Int[Tensor, "c"],
    similarity: float,
    follow: Follow,
) -> Still:
    """The cells that are static, of `c` that have been numbered.

    Tokens of the same `cell` are in the same place of a window of `frames[cell]`. It is static
    where all pairs of frames have at least `similarity` on average, and none lost its token.
    """
    ordered, order = cell.sort(stable=True)
    every = torch.arange(len(frames) + 1, device=cell.device)
    bounds = torch.searchsorted(ordered, every)
    start, count = bounds[:-1], bounds.diff()
    norm = torch.linalg.vector_norm(features, dim=-1, dtype=torch.float32)
    real = norm > 0
    # the squared sum of unit vectors is the sum of all cosines, those with themselves too
    weight = (real / norm.clamp(min=torch.finfo(norm.dtype).tiny))[order]
    squared = merging.sums_of_runs(features, order, start, weight).square().sum(-1)
    themselves = torch.zeros_like(squared).index_add_(0, cell, real.float())
    mean = (squared - themselves) / (frames * (frames - 1)).clamp(min=1)
    alike = mean >= similarity if follow == "paper" else mean > similarity
    static = alike & (count == frames) & (frames > 1)
    return Still(static, order, start, count)
