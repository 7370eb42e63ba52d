"""Bipartite matching: rows of a frame in two sets, of which one joins the other (ToMe, section 3).

Axes: `i` or `f` frames, `n` rows of one, `m` of the largest, `k` width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from tokenprune.precision import exact


@exact
def match(metric: Float[Tensor, "i n k"], remove: int, first: int = 0) -> Int[Tensor, "i n"]:
    """The group of every row: rows of even places join the most similar one of an odd place.

    Of the rows in even places only the `remove` most similar do, at most half of all; the others
    come first, by falling similarity (by place behind a CLS row, so that it stays first), then all
    odd ones. `first` rows never join. Ties go to the lower place.
    """
    rows = metric.shape[1]
    remove = min(remove, (rows - first) // 2)
    unit = normalize(metric, dim=-1)
    best, joined = (unit[:, ::2] @ unit[:, 1::2].mT).max(-1)
    if first:
        best = torch.cat([torch.full_like(best[:, :1], -torch.inf), best[:, 1:]], dim=1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    merged, alone = order.split([remove, order.shape[1] - remove], dim=1)
    if first:
        alone = alone.sort(dim=-1).values
    left = alone.shape[1]
    number = torch.arange(left, device=metric.device).expand_as(alone)
    even = torch.empty_like(order).scatter_(1, alone, number)
    even.scatter_(1, merged, joined.gather(1, merged) + left)
    odd = torch.arange(left, rows - remove, device=metric.device).expand(len(metric), -1)
    group = metric.new_empty(metric.shape[:2], dtype=torch.long)
    group[:, ::2], group[:, 1::2] = even, odd
    return group


@exact
def match_some(
    metric: Float[Tensor, "f m k"], before: Int[Tensor, "f"], behind: Int[Tensor, "f"]
) -> tuple[Int[Tensor, "f m"], Int[Tensor, "f m"]]:
    """The same in frames of different sizes: of the first `before` rows `behind` groups are left.

    Returns the group of every row, and of every group the row whose place it has: that of the odd
    place, or the one that nobody joined. At most half of a frame's rows may go. Rows and groups
    that are none lie behind the others.
    """
    width, device = metric.shape[1], metric.device
    real = torch.arange(width, device=device) < before.unsqueeze(1)
    unit = normalize(metric, dim=-1)
    scores = (unit[:, ::2] @ unit[:, 1::2].mT).masked_fill(~real[:, None, 1::2], -torch.inf)
    best, joined = scores.max(-1)
    order = best.masked_fill(~real[:, ::2], -torch.inf).argsort(dim=1, descending=True, stable=True)
    number = torch.arange(order.shape[1], device=device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, number)
    remove = (before - behind).unsqueeze(1)
    left = (before.unsqueeze(1) + 1) // 2 - remove
    goes = rank < remove
    group = metric.new_full(metric.shape[:2], width - 1, dtype=torch.long)
    group[:, ::2] = torch.where(goes, joined + left, rank - remove)
    group[:, 1::2] = torch.arange(width // 2, device=device) + left
    group = torch.where(real, group, width - 1)
    stays = real.clone()
    stays[:, ::2] &= ~goes
    row = torch.arange(width, device=device).expand_as(group)
    owner = group.new_zeros(len(group), width + 1)  # the last is of rows that have joined others
    return group, owner.scatter_(1, torch.where(stays, group, width), row)[:, :width]
