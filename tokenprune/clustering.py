"""Clusters of tokens and scenes of frames: pure parts of methods that merge over a whole video.

Axes: `g` groups padded to `m` tokens, `c` centres of the largest group, `d` width, `f` frames, `t`
transitions from one frame to the next.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops, ragged
from tokenprune.precision import exact

NOBODY = -1  # the cluster of what belongs to none


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
    order: Literal["score", "place"] = "score",
) -> Clusters:
    """Clusters around `centres[g]` tokens of each group, dense ones far from any denser one.

    DPC-KNN (Du et al., 2016). A density is `exp(-mean of the squared distances to the nearest
    neighbours[g] tokens)`, of which the token itself is one; distances are Euclidean over
    `sqrt(d)`. A score is density times the distance to the nearest denser token, or to the farthest
    pair of the group for the densest. Where densities or scores tie, the lower place wins. Every
    token joins its nearest centre, the first in `order` of those equally near, and a centre itself.

    Groups of any size, also empty ones; numbers a group cannot hold are cut to its size.
    """
    distance = _distances(features, valid)
    density = _densities(distance, valid, neighbours)
    # who is denser: the rank holds the rule for ties
    rank = ops.ranking(density, valid).argsort(dim=-1)
    sparser = rank.unsqueeze(1) >= rank.unsqueeze(2)
    inside = distance
    if not hosted.all_true(valid):
        inside = distance.masked_fill(~(valid.unsqueeze(1) & valid.unsqueeze(2)), 0)
    farthest = inside.amax(dim=(1, 2)).unsqueeze(-1)
    apart = distance.masked_fill(sparser, torch.inf).amin(dim=-1).minimum(farthest)

    width = min(max(1, hosted.most(centres)), max(1, valid.shape[1]))
    real = _real(centres, valid, width)
    centre = ops.ranking(density * apart, valid)[:, :width]
    if order == "place" and hosted.all_true(real):
        centre = centre.sort(dim=-1).values
    elif order == "place":
        behind = (~real).to(centre.dtype) * valid.shape[1]
        centre = centre.gather(-1, (centre + behind).argsort(dim=-1))
    return Clusters(centre, real, _joined(distance, valid, centre, real))


def _real(centres: Int[Tensor, "g"], valid: Bool[Tensor, "g m"], width: int) -> Bool[Tensor, "g c"]:
    """Which of `width` places are those of centres, no more than there are tokens."""
    known = hosted.known(centres)
    if hosted.all_true(valid) and known is not None and min(known, default=width) >= width:
        return hosted.everything(centres, width)
    return ragged.real(centres.minimum(valid.sum(-1)), width)


def _distances(
    features: Float[Tensor, "g m d"], valid: Bool[Tensor, "g m"]
) -> Float[Tensor, "g m m"]:
    """Euclidean over the square root of the width, infinite to padding.

    Exactly symmetric, and exactly zero between equal tokens: densities that tie have to tie.
    """
    whole, points = hosted.all_true(valid), features.float()
    if whole:
        mean = points.mean(1, keepdim=True)
    else:
        points = points.masked_fill(~valid.unsqueeze(-1), 0)
        mean = points.sum(1, keepdim=True) / valid.sum(-1).clamp(min=1).view(-1, 1, 1)
    points = points - mean  # a Gram matrix rounds in proportion to the norms, smallest so
    gram = points.bmm(points.mT)
    gram = torch.maximum(gram, gram.mT)
    square = gram.diagonal(dim1=1, dim2=2)
    squared = (square.unsqueeze(1) + square.unsqueeze(2)).sub_(gram, alpha=2).clamp_(min=0)
    distance = squared.div_(features.shape[-1]).sqrt_()
    return distance if whole else distance.masked_fill_(~valid.unsqueeze(1), torch.inf)


def _densities(
    distance: Float[Tensor, "g m m"], valid: Bool[Tensor, "g m"], neighbours: Int[Tensor, "g"] | int
) -> Float[Tensor, "g m"]:
    if hosted.all_true(valid) and isinstance(neighbours, int):
        near = min(max(1, neighbours), distance.shape[-1])
        nearest = distance.topk(near, largest=False).values.square_()
        return nearest.mean(-1).neg_().exp_()
    count = valid.sum(-1)
    most = neighbours if isinstance(neighbours, int) else hosted.most(neighbours)
    near = count.clamp(min=1)
    near = near.clamp(max=most) if isinstance(neighbours, int) else near.minimum(neighbours)
    most = min(max(1, most), distance.shape[-1])
    nearest = distance.topk(most, largest=False).values.square_()
    behind = torch.arange(most, device=count.device) >= near.unsqueeze(-1)
    nearest.masked_fill_(behind.unsqueeze(1), 0)
    return (-nearest.sum(-1) / near.unsqueeze(-1)).exp_()


def _joined(
    distance: Float[Tensor, "g m m"],
    valid: Bool[Tensor, "g m"],
    centre: Int[Tensor, "g c"],
    real: Bool[Tensor, "g c"],
) -> Int[Tensor, "g m"]:
    """The column of each token's nearest centre."""
    # distances are symmetric, and along the last axis it is faster
    near = distance.gather(2, centre.unsqueeze(1).expand(-1, distance.shape[1], -1))  # [g m c]
    if not hosted.all_true(real):
        near.masked_fill_(~real.unsqueeze(1), torch.inf)
    member = near.argmin(dim=-1)
    column = torch.arange(centre.shape[1], device=centre.device).expand_as(centre)
    if hosted.all_true(real):
        member.scatter_(1, centre, column)
        return member if hosted.all_true(valid) else member.masked_fill_(~valid, NOBODY)
    member.scatter_(1, centre, torch.where(real, column, member.gather(1, centre)))
    return member.masked_fill_(~(valid & real.any(dim=-1, keepdim=True)), NOBODY)


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
    number = hosted.sent([centres], features.device)
    every = hosted.everything(number, len(features))
    found = density_peaks(features.unsqueeze(0), every, number, neighbours)
    member = found.member[0]
    sums = features.new_zeros(centres, features.shape[-1], dtype=torch.float32)
    sums = sums.index_add(0, member, features.float())
    if how == "mean":
        sizes = number.new_zeros(centres).scatter_add(0, member, torch.ones_like(member))
        sums = sums / sizes.unsqueeze(-1)
    return found.centre[0], sums.to(features.dtype)


def segments(similarity: Float[Tensor, "t"], threshold: float, least: int) -> Int[Tensor, "f"]:
    """The segment of every frame, from the similarity of each frame to the next.

    A segment ends where the similarity falls below `threshold`, and where it is smallest until
    there are `least` segments, as far as frames go. Ties: the earlier cut.
    """
    lowest = similarity.argsort(stable=True)[: max(0, least - 1)]
    cut = (similarity < threshold).index_fill(0, lowest, True)
    return functional.pad(cut, (1, 0)).cumsum(0)


def leaders(
    features: Float[Tensor, "n d"],
    counts: Int[Tensor, "g"],
    centres: Int[Tensor, "g"],
    neighbours: Int[Tensor, "g"] | int,
    order: Literal["score", "place"] = "score",
) -> Int[Tensor, "n"]:
    """The row of each token's centre, -1 of none, for groups of `counts[g]` rows one after another.

    See `density_peaks`.
    """
    return ranked_leaders(features, counts, centres, neighbours, order)[0]


def ranked_leaders(
    features: Float[Tensor, "n d"],
    counts: Int[Tensor, "g"],
    centres: Int[Tensor, "g"],
    neighbours: Int[Tensor, "g"] | int,
    order: Literal["score", "place"] = "score",
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """The same, and which centre of its group in `order` that is."""
    padded, valid = ops.by_frame(features, counts)
    found = density_peaks(padded, valid, centres, neighbours, order)
    first = ragged.starts(counts).unsqueeze(-1)
    if hosted.all_true(valid) and hosted.all_true(found.real):
        row = found.centre.gather(1, found.member) + first
    else:
        row = found.centre.gather(1, found.member.clamp(min=0)) + first
        row = torch.where(found.member == NOBODY, NOBODY, row)
    return ragged.by_row(row, counts), ragged.by_row(found.member, counts)


def totals(number: Int[Tensor, "f"], segment: Int[Tensor, "f"]) -> Int[Tensor, "f"]:
    """The sum of `number` over each segment, the first segment's first; zeros behind the last."""
    return torch.zeros_like(number).scatter_add_(0, segment, number)
