"""Clusters of tokens by density peaks: pure parts of methods that merge over a whole video.

Axes: `g` groups padded to `m` tokens, `c` centres of the largest group, `d` width, `n` tokens of
all groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops, ragged
from tokenprune.precision import exact

NOBODY = -1  # the cluster of what belongs to none

Order = Literal["score", "place"]


class Clusters(NamedTuple):
    """The clusters of every group.

    Args:
        centre: places of the centres; what stands behind the last real one of a group is arbitrary
        real: which of them are centres
        member: column in `centre` of each token's cluster, -1 on padding and without any centre
    """

    centre: Int[Tensor, "g c"]
    real: Bool[Tensor, "g c"]
    member: Int[Tensor, "g m"]


@exact
@torch.no_grad()  # it ranks, and is written in place
def density_peaks(
    features: Float[Tensor, "g m d"],
    valid: Bool[Tensor, "g m"],
    centres: Int[Tensor, "g"],
    neighbours: Int[Tensor, "g"] | int,
    order: Order = "score",
    counts: Int[Tensor, "g"] | None = None,
) -> Clusters:
    """Clusters around `centres[g]` tokens of each group, dense ones far from any denser one.

    DPC-KNN (Du et al., 2016). A density is `exp(-mean of the squared distances to the nearest
    neighbours[g] tokens)`, of which the token itself is one; distances are Euclidean over
    `sqrt(d)`. A score is density times the distance to the nearest denser token, or to the farthest
    pair of the group for the densest, which so comes first. Where densities or scores tie, the
    lower place wins. Every token joins its nearest centre, the first in `order` of those equally
    near, and a centre itself.

    Groups of any size, also empty ones; numbers a group cannot hold are cut to its size. `counts`
    is how many are valid, for whoever has it: what the host knows of it needs no launch.
    """
    if hosted.all_true(valid):
        sizes, padding = [valid.shape[1]] * len(valid), None
        points = _around_mean(features)
    else:
        sizes, padding = valid.sum(-1) if counts is None else counts, ~valid
        points = features.float().masked_fill(padding.unsqueeze(-1), 0)
        points = points - points.sum(1, keepdim=True) / sizes.view(-1, 1, 1)  # nan where nobody is
    centre, real, squared = _centres(points, padding, sizes, centres, neighbours, order)
    member = _joined(squared, centre)
    real = hosted.everything(centres, centre.shape[1]) if real is None else real
    if min(hosted.numbers(centres), default=1) < 1:
        none = ~real[:, :1]
        padding = none if padding is None else padding | none
    if padding is not None:
        member.masked_fill_(padding, NOBODY)
    return Clusters(centre, real, member)


@exact
@torch.no_grad()
def peaks(
    features: Float[Tensor, "g m d"],
    counts: Int[Tensor, "g"],
    centres: Int[Tensor, "g"],
    neighbours: int,
    order: Order = "score",
) -> tuple[Int[Tensor, "g c"], Bool[Tensor, "g c"] | None]:
    """The centres alone of groups of `counts[g]` tokens, padded by anything finite, and which are
    real; None: all of them. See `density_peaks`.
    """
    whole = min(hosted.numbers(counts), default=0) == features.shape[1]
    padding = None if whole else ~ragged.real(counts, features.shape[1])
    return _centres(_around_mean(features), padding, counts, centres, neighbours, order)[:2]


@exact
@torch.no_grad()
def equal_peaks(
    features: Float[Tensor, "g m d"], centres: int, neighbours: int
) -> tuple[Int[Tensor, "g c"], Int[Tensor, "g m"]]:
    """The centres and members of groups that are whole, with as many centres in each."""
    sizes = [features.shape[1]] * len(features)
    centre, _, squared = _centres(_around_mean(features), None, sizes, centres, neighbours, "score")
    return centre, _joined(squared, centre)


def _around_mean(features: Float[Tensor, "g m d"]) -> Float[Tensor, "g m d"]:
    """A Gram matrix rounds in proportion to the norms, which are smallest there."""
    points = features.float()
    return points - points.mean(1, keepdim=True)


def _centres(
    points: Float[Tensor, "g m d"],
    padding: Bool[Tensor, "g m"] | None,
    sizes: Int[Tensor, "g"] | Sequence[int],
    centres: Int[Tensor, "g"] | int,
    neighbours: Int[Tensor, "g"] | int,
    order: Order,
) -> tuple[Int[Tensor, "g c"], Bool[Tensor, "g c"] | None, Float[Tensor, "g m m"]]:
    """Of points around a mean the centres, which are real (None: all), and squared distances."""
    width, there = points.shape[-1], max(1, points.shape[1])
    # no root is taken of all pairs, nor are they divided: their order is that of the squares
    squared = _squared(points, padding)
    near = _capped(neighbours, sizes), min(_most(neighbours), there)
    density = _densities(squared, width, *near)
    if padding is not None:
        density.masked_fill_(padding, -1)  # below any token's
    # who is denser: the rank holds the rule for ties
    rank = ops.ranking(density).argsort(dim=-1)
    sparser = rank.unsqueeze(1) >= rank.unsqueeze(2)
    # Nothing is denser than the densest. Infinitely far from it, it comes first, as it does with
    # the farthest pair; also without any density, which then nobody has: nan is first, too.
    apart = squared.masked_fill(sparser, torch.inf).amin(dim=-1).sqrt_()
    most = min(_most(centres), there)
    centre = ops.ranking(density * apart)[:, :most]
    real = _real(_capped(centres, sizes), most, centre.device)
    if order == "place":
        behind = centre if real is None else centre.masked_fill(~real, there - 1)
        centre = behind.sort(dim=-1).values
    if real is not None:
        centre = torch.where(real, centre, centre[:, :1])  # again the first, which nobody joins
    return centre, real, squared


def _most(wanted: Int[Tensor, "g"] | int) -> int:
    return max(1, wanted if isinstance(wanted, int) else hosted.most(wanted))


def _capped(
    wanted: Int[Tensor, "g"] | int, sizes: Int[Tensor, "g"] | Sequence[int]
) -> Int[Tensor, "g"] | list[int]:
    """What is wanted of each group, as far as it goes: on the host where that knows sizes."""
    there = hosted.known(sizes) if isinstance(sizes, Tensor) else sizes
    if there is not None:
        asked = repeat(wanted) if isinstance(wanted, int) else hosted.numbers(wanted)
        return [*map(min, asked, there)]
    assert isinstance(sizes, Tensor)
    return sizes.clamp(max=wanted) if isinstance(wanted, int) else sizes.minimum(wanted)


def _squared(
    points: Float[Tensor, "g m d"], padding: Bool[Tensor, "g m"] | None
) -> Float[Tensor, "g m m"]:
    """Squared Euclidean distances, infinite from and to padding.

    Exactly symmetric, and exactly zero between equal tokens: densities that tie have to tie.
    """
    gram = points.bmm(points.mT)
    square = gram.diagonal(dim1=1, dim2=2)
    if padding is not None:
        square = square.masked_fill(padding, torch.inf)
    half = square.unsqueeze(-1) - gram
    return (half + half.mT).clamp_(min=0)


def _densities(
    squared: Float[Tensor, "g m m"],
    width: int,
    near: Int[Tensor, "g"] | list[int],
    most: int,
) -> Float[Tensor, "g m"]:
    """Those of `near[g]` neighbours, `most` of any, in a space of `width`; of none, arbitrary."""
    if isinstance(near, list) and len(number := {*near} - {0}) <= 1:
        most = max(number, default=1)
        return squared.topk(most, largest=False).values.sum(-1).div_(-most * width).exp_()
    if isinstance(near, list):
        near = hosted.sent(near, squared.device)
    nearest = squared.topk(most, largest=False).values
    behind = torch.arange(most, device=near.device) >= near.view(-1, 1, 1)
    summed = nearest.masked_fill_(behind, 0).sum(-1)
    return summed.div_((near * -width).unsqueeze(-1)).exp_()


def _real(
    number: Int[Tensor, "g"] | list[int], width: int, device: torch.device
) -> Bool[Tensor, "g c"] | None:
    """Which of `width` places are those of centres; None: all."""
    if isinstance(number, list):
        if min(number, default=width) == width:
            return None
        number = hosted.sent(number, device)
    return ragged.real(number, width)


def _joined(squared: Float[Tensor, "g m m"], centre: Int[Tensor, "g c"]) -> Int[Tensor, "g m"]:
    """The column of each token's nearest centre, the first of those equally near."""
    # distances are symmetric, and along the last axis it is faster
    row = centre.unsqueeze(1)
    near = squared.gather(2, row.expand(-1, squared.shape[1], -1))  # [g m c]
    return near.scatter_(1, row, -1).argmin(dim=-1)  # a centre is nearest to itself


@exact
def condensed(
    features: Float[Tensor, "n d"],
    centres: int,
    neighbours: int,
    how: Literal["mean", "sum"] = "mean",
) -> tuple[Int[Tensor, "c"], Float[Tensor, "c d"]]:
    """The `centres` of one group by density peaks, the best first, and what clusters sum up to."""
    if centres == 0:
        return torch.zeros(0, dtype=torch.long, device=features.device), features[:0]
    centre, member = equal_peaks(features.unsqueeze(0), centres, neighbours)
    wide = features.float()
    sums = wide.new_zeros(centre.shape[1], wide.shape[1])
    sums = sums.scatter_reduce(0, member.mT.expand_as(wide), wide, how, include_self=False)
    return centre[0], sums.to(features.dtype)


@exact
@torch.no_grad()
def leaders(
    features: Float[Tensor, "n d"],
    counts: Int[Tensor, "g"],
    centres: Int[Tensor, "g"],
    neighbours: Int[Tensor, "g"] | int,
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """The row of each token's centre, and which one of its group that is, from the best; -1: none.

    For groups of `counts[g]` rows one after another. See `density_peaks`.
    """
    number, width = len(features), ragged.widest(counts)
    if not number:
        return counts.new_zeros(0), counts.new_zeros(0)
    first = ragged.starts(counts).unsqueeze(-1)
    if number == len(counts) * width:
        padding, points = None, features.unflatten(0, (-1, width))
    else:  # padded by whoever stands behind, who is not far from the mean
        row = first + torch.arange(width, device=counts.device)
        points = functional.embedding(row.clamp_(max=number - 1), features)
        padding = ~ragged.real(counts, width)
    sizes = hosted.numbers(counts)
    points = _around_mean(points)
    centre, real, squared = _centres(points, padding, sizes, centres, neighbours, "score")
    member = _joined(squared, centre)
    row = centre.gather(1, member) + first
    if real is not None and min(hosted.numbers(centres)) < 1:
        none = ~real[:, :1]
        row, member = row.masked_fill_(none, NOBODY), member.masked_fill_(none, NOBODY)
    return ragged.by_row(row, counts), ragged.by_row(member, counts)
