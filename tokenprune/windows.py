"""Windows of frames that look alike, and their cells that stay the same: pure parts of methods.

Axes: `n` tokens, `d` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Float, Int
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


@exact
@torch.no_grad()  # it ranks
def first_of_still(
    features: Float[Tensor, "n d"],
    cell: Int[Tensor, "n"],
    frames: Int[Tensor, "n"],
    similarity: float,
    follow: Follow,
) -> Int[Tensor, "n"]:
    """The row of the first of the tokens of a static cell, for all of them; others have their own.

    Tokens of the same `cell` are in the same place of a window of `frames`. It is static where all
    pairs of frames have at least `similarity` on average, and none lost its token.
    """
    ordered, order = cell.sort(stable=True)
    _, run, count = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    start = count.cumsum(0) - count
    norm = torch.linalg.vector_norm(features, dim=-1, dtype=torch.float32)
    real = norm > 0
    # the squared sum of unit vectors is the sum of all cosines, those with themselves too
    weight = (real / norm.clamp(min=torch.finfo(norm.dtype).tiny))[order]
    squared = merging.sums_of_runs(features.float(), order, start, weight).square().sum(-1)
    themselves = torch.zeros_like(squared).index_add_(0, run, real[order].float())
    first = order[start]
    pairs = frames[first] * (frames[first] - 1)
    mean = (squared - themselves) / pairs.clamp(min=1)
    alike = mean >= similarity if follow == "paper" else mean > similarity
    static = alike & (count == frames[first]) & (count > 1)
    return torch.empty_like(cell).scatter_(0, order, torch.where(static[run], first[run], order))
