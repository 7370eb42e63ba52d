"""Sums of tokens that resemble each other: pure parts of methods that merge tokens.

Axes as in `ops`, and `c` centres, `k` key width, `b` members of a centre, `q` sums.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops, resembling
from tokenprune.precision import exact


@exact
def absorbed_and_left(
    features: Float[Tensor, "f m d"],
    weight: Float[Tensor, "f m"],
    near: Bool[Tensor, "f c m"],
    left: Bool[Tensor, "f m"],
) -> tuple[Float[Tensor, "f c d"], Float[Tensor, "f d"]]:
    """Weighted sums of the features that are `near` each centre, and of those that are `left`."""
    shares = torch.cat([near, left.unsqueeze(1)], dim=1) * weight.unsqueeze(1)
    sums = torch.bmm(shares, features.float())
    return sums[:, :-1], sums[:, -1]


def sums_of_runs(
    features: Float[Tensor, "n d"],
    members: Int[Tensor, "r"],
    start: Int[Tensor, "q"],
    weight: Float[Tensor, "r"] | None = None,
) -> Float[Tensor, "q d"]:
    """The sum of the features of each run of `members`, without writing them out first.

    The first run begins at `start[0]`, the last ends with them. Each counts `weight` times.
    """
    return functional.embedding_bag(members, features, start, mode="sum", per_sample_weights=weight)


class Gathered(NamedTuple):
    """Tokens that went to their leaders.

    rows: the leaders, ascending
    members: the place among them where each token went, -1 of none
    sums: of the features of each leader and its followers, in float32
    sizes: how many these are
    """

    rows: Int[Tensor, "q"]
    members: Int[Tensor, "n"]
    sums: Float[Tensor, "q d"]
    sizes: Int[Tensor, "q"]

    @property
    def means(self) -> Float[Tensor, "q d"]:
        return self.sums / self.sizes.unsqueeze(-1)


def to_leaders(
    features: Float[Tensor, "n d"],
    leader: Int[Tensor, "n"],
    weight: Float[Tensor, "n"] | None = None,
    number: int | None = None,
) -> Gathered:
    """Every token goes to the row of its `leader`, a leader to itself, and -1 nowhere.

    Sums are those of `weight` times feature where there is one. `number` is how many leaders there
    are; None: one read says it.
    """
    leads = leader == torch.arange(len(leader), device=leader.device)
    rows = leads.nonzero().squeeze(-1) if number is None else ops.marked(leads, number)
    members = torch.where(leader < 0, -1, (leads.cumsum(0) - 1)[leader])
    # the last run is of those that went nowhere
    target, token = torch.where(leader < 0, len(leader), leader).sort(stable=True)
    bounds = torch.searchsorted(target, functional.pad(rows, (0, 1), value=len(leader)))
    weight = None if weight is None else weight[token]
    sums = sums_of_runs(features.float(), token, bounds, weight)[:-1]
    return Gathered(rows, members, sums, bounds.diff())


def onwards(members: Int[Tensor, "m"], first: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Where tokens end that went to `first` and from there to `members`; -1 was lost on the way."""
    return functional.pad(members, (0, 1), value=-1)[first]


@exact
def absorbed(
    features: Float[Tensor, "n d"],
    priority: Float[Tensor, "n"],
    kept: Bool[Tensor, "n"],
    halving: bool = False,
    number: int | None = None,
) -> Float[Tensor, "q d"]:
    """The kept tokens, each the mean of itself and the others to which it is the nearest by cosine.

    Ties: the kept token with more priority. `halving`: the others are averaged with it one after
    the other, so that later ones weigh more. `number` of them are kept; None: one read says it.
    """
    if number is None:
        number = int(kept.sum())
    centre = ops.ranking(priority, kept)[:number]
    every = hosted.sent([number], kept.device)
    nearest = resembling.nearest_centre(features.unsqueeze(0), centre.unsqueeze(0), every)[0]
    own = torch.arange(len(kept), device=kept.device)
    leader = torch.where(kept, own, centre[nearest])
    if not halving:
        return to_leaders(features, leader, number=number).means
    run, order = (2 * leader + ~kept).sort(stable=True)  # a kept token before its followers
    turn = (own - torch.searchsorted(run // 2, run // 2))[order.argsort()]
    sizes = torch.zeros_like(leader).scatter_add(0, leader, torch.ones_like(leader))
    halvings = sizes[leader] - turn - kept.long()
    return to_leaders(features, leader, 0.5 ** halvings.float(), number).sums


class Anchored(NamedTuple):
    """What became of the anchors of some frames.

    features: of each anchor, in float32
    joined: of each token, the first anchor that it joined, all counted through, -1 of none
    """

    features: Float[Tensor, "a c d"]
    joined: Int[Tensor, "f m"]


@exact
def to_anchors(
    features: Float[Tensor, "f m d"],
    pool: Bool[Tensor, "f m"],
    segment: Int[Tensor, "f"],
    frame: Int[Tensor, "a"],
    anchor: Int[Tensor, "a c"],
    real: Bool[Tensor, "a c"],
    alone: Bool[Tensor, "a"],
    others: bool,
    beta: float,
) -> Anchored:
    """In each frame with anchors, tokens of the segment's `pool` join the nearest one by cosine.

    Anchors are the `real` places in the frames `frame`, which ascend. Those of an `alone` frame
    take tokens of this frame only. `others`: the anchors of a frame do not join each other, nor
    themselves. An anchor weighs `beta` beside the mean of those that joined it, at least as much as
    each of them. Ties: the anchor that is listed first.
    """
    sums, number = features[frame.unsqueeze(-1), anchor].float(), torch.zeros_like(anchor)
    before, unit, width = sums.clone(), functional.normalize(sums, dim=-1), anchor.shape[1]
    taken = torch.zeros_like(pool)
    taken[frame.unsqueeze(-1).expand_as(anchor)[real], anchor[real]] = True
    first = torch.full_like(pool, -1, dtype=torch.long)
    ends = torch.bincount(segment).cumsum(0)
    held = torch.searchsorted(frame, ends).tolist()
    start = begin = 0
    # segment by segment: together each would be padded to the longest, and its anchors to the most
    for stop, end in zip(ends.tolist(), held, strict=True):
        here, of, begins = slice(start, stop), slice(begin, end), begin * width
        start, begin = stop, end
        if of.start == of.stop:
            continue
        tokens = features[here].flatten(0, 1).float()
        same = torch.arange(here.start, stop, device=frame.device).unsqueeze(-1) == frame[of]
        same = same.unsqueeze(1)  # [f 1 a]
        joins = pool[here].unsqueeze(-1) & (same | ~alone[of])
        if others:
            joins = joins & ~(same & taken[here].unsqueeze(-1))
        joins = joins.flatten(0, 1)
        similar = (tokens @ unit[of].flatten(0, 1).T).unflatten(1, (-1, width))
        nearest = similar.masked_fill_(~real[of], -torch.inf).argmax(-1)
        column = nearest + width * torch.arange(end - of.start, device=frame.device)
        column = column.masked_fill(~joins, similar.shape[1] * width)
        ordered, pair = column.flatten().sort(stable=True)
        every = torch.arange(similar.shape[1] * width + 1, device=frame.device)
        bounds = torch.searchsorted(ordered, every)
        member = pair[: int(bounds[-1])] // similar.shape[1]
        sums[of] = sums_of_runs(tokens, member, bounds[:-1]).unflatten(0, (-1, width))
        number[of] = bounds.diff().unflatten(0, (-1, width))
        leader = column.amin(-1) + begins
        first[here] = leader.masked_fill(~joins.any(-1), -1).view(pool[here].shape)
    number = number.unsqueeze(-1)
    own = (1 / (number + 1)).clamp(min=beta).masked_fill(number == 0, 1)
    return Anchored(own * before + (1 - own) * sums / number.clamp(min=1), first)
