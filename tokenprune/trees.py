"""Trees of tokens through time: each follows the most similar one of the frame before.

Axes: `f` frames padded to `m` tokens, `n` tokens, `d` width, `s` segments, `q` trees.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import merging, ops, ragged
from tokenprune.precision import exact

Follow = Literal["paper", "released"]


@exact
@torch.no_grad()
def links(
    unit: Float[Tensor, "f m d"], free: Bool[Tensor, "f m"], segment: Int[Tensor, "f"]
) -> tuple[Float[Tensor, "f m"], Int[Tensor, "f m"]]:
    """The largest cosine of each free token with a free one of the frame before, and its place.

    Of `unit` vectors. The cosine is -1 where there is none, as in the first frame of a segment.
    """
    similar = torch.full(free.shape, -1.0, device=free.device)
    parent = torch.zeros_like(free, dtype=torch.long)
    cosine = (unit[1:] @ unit[:-1].mT).masked_fill_(~free[:-1].unsqueeze(1), -torch.inf)
    nearest, parent[1:] = cosine.max(-1)
    child = free[1:] & (segment.diff() == 0).unsqueeze(-1)
    similar[1:] = nearest.clamp_(-1, 1).masked_fill_(~child, -1)
    return similar, parent


def parents(
    unit: Float[Tensor, "f m d"],
    valid: Bool[Tensor, "f m"],
    free: Bool[Tensor, "f m"],
    segment: Int[Tensor, "f"],
    least: Int[Tensor, "s"],
    threshold: float,
    follow: Follow,
) -> Int[Tensor, "n"]:
    """The row of the token that each token follows; its own where it follows none."""
    similar, place = links(unit, free, segment)
    counts = valid.sum(-1)
    before = ragged.starts(counts).roll(1).unsqueeze(-1)
    merges = joined(similar[valid], segment.repeat_interleave(counts), least, threshold, follow)
    return torch.where(
        merges, (place + before)[valid], torch.arange(len(merges), device=place.device)
    )


def joined(
    similar: Float[Tensor, "n"],
    segment: Int[Tensor, "n"],
    least: Int[Tensor, "s"],
    threshold: float,
    follow: Follow,
) -> Bool[Tensor, "n"]:
    """Which links are made: all at the threshold, or where a segment would end with fewer than
    `least[s]` tokens only its best.
    """
    over = similar >= threshold if follow == "paper" else similar > threshold
    counts = torch.bincount(segment, minlength=len(least))
    left = counts - torch.bincount(segment[over], minlength=len(least))
    best = functional.pad(similar[ops.ranking_by_tier(segment, similar)], (0, 1))  # never empty
    last = counts.cumsum(0) - least - 1  # the last that could go, of links in descending order
    bar = best[last.clamp(min=0)].clamp(min=-1 + 1e-6).masked_fill(counts <= least, torch.inf)
    return torch.where((left < least)[segment], similar > bar[segment], over)


def gathered(
    features: Float[Tensor, "n d"], parent: Int[Tensor, "n"], frames: int, follow: Follow
) -> tuple[merging.Gathered, Float[Tensor, "q d"]]:
    """The trees, and the values of their roots: means, or sums over 1 + direct children.

    The parent of a root is itself.
    """
    root = parent
    for _ in range(frames.bit_length()):  # each turn doubles how far a token sees
        root = root[root]
    found = merging.to_leaders(features, root)
    if follow == "paper":
        return found, found.means
    children = torch.bincount(parent, minlength=len(parent))[found.rows]  # a root is its own, too
    return found, found.sums / children.unsqueeze(-1)
