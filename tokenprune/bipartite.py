"""Bipartite matching: rows of a frame in two sets, of which one joins the other (ToMe, section 3).

Axes: `i` or `f` frames, `n` rows of one, `m` of the largest, `k` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import sub

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.precision import exact

_TINY = 1e-12  # a row of zeros stays one
_ODD = -2.0  # below every cosine


@exact
def match(metric: Float[Tensor, "i n k"], remove: int, first: int = 0) -> Int[Tensor, "i n"]:
    """The group of every row: rows of even places join the most similar one of an odd place.

    Of the rows in even places only the `remove` most similar do, at most half of all; the others
    come first, by falling similarity (by place behind a CLS row, so that it stays first), then all
    odd ones. `first` rows never join. Ties go to the lower place.
    """
    rows, device = metric.shape[1], metric.device
    remove = min(remove, (rows - first) // 2)
    best, joined = _nearest(metric)
    if first:
        best[:, 0] = -torch.inf
    alone = best.argsort(dim=-1, descending=True, stable=True)[:, remove:]
    if first:
        alone = alone.sort(dim=-1).values
    left = alone.shape[1]
    even = joined + left
    even.scatter_(1, alone, torch.arange(left, device=device).expand_as(alone))
    odd = torch.arange(left, left + even.shape[1], device=device).expand_as(even)
    # there may be one even place more
    return torch.stack([even, odd], dim=-1).flatten(1)[:, :rows]


@exact
def match_some(
    metric: Float[Tensor, "f m k"], before: Sequence[int], behind: Sequence[int]
) -> tuple[Int[Tensor, "f m"], Int[Tensor, "f q"]]:
    """The same in frames of different sizes: of the first `before` rows `behind` groups are left.

    Returns the group of every row, and of every group the row whose place it has: that of the odd
    place, or the one that nobody joined. At most half of a frame's rows may go, and the largest has
    no row behind it. Rows and groups that are none are somewhere, groups behind the others.
    """
    width, device = metric.shape[1], metric.device
    real = None
    if min(before) < width:
        real = torch.arange(width, device=device) < hosted.sent(before, device).unsqueeze(1)
    best, joined = _nearest(metric, real)
    score = torch.full_like(metric[..., 0], _ODD)
    score[:, ::2] = best
    if real is not None:
        score = score.where(real, -torch.inf)
    # those that join, and from there on the next round's: even ones, odd ones
    order = score.argsort(dim=1, descending=True, stable=True)
    remove = _one_or_each([*map(sub, before, behind)], device)
    # groups of one row in an even place: of all but those in odd places
    left = _one_or_each([*map(_alone, before, behind)], device)
    group = order.argsort(dim=1) - remove
    even = group[:, ::2]
    even.copy_(torch.where(even < 0, joined + left, even))
    most = max(behind)
    if isinstance(remove, int):
        return group, order[:, remove:]
    place = torch.arange(most, device=device) + remove
    return group.clamp(max=most - 1), order.gather(1, place.clamp(max=width - 1))


def _nearest(
    metric: Float[Tensor, "i n k"], real: Bool[Tensor, "i n"] | None = None
) -> tuple[Float[Tensor, "i e"], Int[Tensor, "i e"]]:
    """Of every row in an even place the cosine to the nearest one in an odd place, and which."""
    unit = metric / metric.norm(dim=-1, keepdim=True).clamp_min(_TINY)
    cosines = torch.bmm(unit[:, ::2], unit[:, 1::2].mT)
    if real is not None:
        cosines = cosines.where(real[:, None, 1::2], -torch.inf)
    best, joined = cosines.max(-1)
    return best, joined


def _alone(before: int, behind: int) -> int:
    return behind - before // 2


def _one_or_each(numbers: Sequence[int], device: torch.device) -> int | Int[Tensor, "f 1"]:
    """One number where all frames have the same, so that nothing is sent."""
    if len({*numbers}) == 1:
        return numbers[0]
    return hosted.sent(numbers, device).unsqueeze(1)
