"""Who resembles whom, and sums of those who do: pure parts of methods that merge tokens.

Axes as in `ops`, and `c` centres, `k` key width, `b` members of a centre, `q` sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops
from tokenprune.precision import exact

BLOCK = 256  # rows that are compared at once


@exact
@torch.no_grad()  # it ranks
def to_reference(
    features: Float[Tensor, "f n d"], reference: Sequence[int]
) -> Float[Tensor, "f n"]:
    """Cosine in float32 of every token with the token in the same place of its reference.

    Frames come in windows as long as `reference`, which has one frame of the window for each; the
    last window may be shorter.
    """
    window = len(reference)
    whole = len(features) // window * window
    if 0 < whole < len(features):
        rest = to_reference(features[whole:], reference[: len(features) - whole])
        return torch.cat([to_reference(features[:whole], reference), rest])
    if not whole:
        window = len(features)
    # One Gram matrix per place reads each token once. Windows are few, and each is a strided view:
    # nothing is copied.
    places = [part.float().transpose(0, 1) for part in features.split(window)]
    pairs = torch.stack([torch.bmm(part, part.mT) for part in places]).flatten(2).transpose(1, 2)
    frames, others = range(window), reference[:window]
    each = zip((*frames, *frames, *others), (*others, *frames, *others), strict=True)
    rows = hosted.sent([one * window + other for one, other in each], features.device)
    found = pairs.index_select(1, rows).unflatten(1, (3, window))
    return ops.cosine_of(*found.unbind(1)).flatten(0, 1)


@torch.no_grad()  # it ranks
def to_previous(
    features: Float[Tensor, "n d"], frame: Int[Tensor, "n"], slot: Int[Tensor, "n"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Tokens cell by cell, in time, and in this order the cosine of each with the one before it.

    In float32; -inf of the first of a cell. Frames may lack any of their tokens.
    """
    order = (slot * (frame.amax() + 1) + frame).argsort() if len(frame) else frame
    product, squared = features.new_empty(2, len(order), dtype=torch.float32)
    # block by block, which stays in a processor's cache; each begins with the row before it
    for end in range(BLOCK, len(order) + BLOCK, BLOCK):
        block = slice(max(0, end - BLOCK - 1), end)
        rows = features.index_select(0, order[block]).float()
        squared[block] = rows.norm(dim=-1).square()
        product[block][1:] = (rows[1:] * rows[:-1]).sum(-1)
    similar, cell = torch.full_like(squared, -torch.inf), slot[order]
    alike = ops.cosine_of(product[1:], squared[1:], squared[:-1])
    similar[1:] = alike.masked_fill(cell[1:] != cell[:-1], -torch.inf)
    return order, similar


@exact
def nearest_tokens(
    keys: Float[Tensor, "f m k"],
    valid: Bool[Tensor, "f m"],
    order: Int[Tensor, "f m"],
    centres: Int[Tensor, "f"],
    number: int,
) -> tuple[Int[Tensor, "q b"], Bool[Tensor, "q b"]]:
    """Rows of the `number` tokens nearest by key cosine to the first `centres[f]` of each `order`.

    Centres stand frame after frame; none is its own neighbour. The mask says which neighbours are
    real: small frames have fewer. Ties go to the lower index.
    """
    width = max(1, int(centres.max()) if len(centres) else 0)
    centre, keys = order[:, :width], keys.float()
    norms = keys.norm(dim=-1).clamp(min=1e-12)  # the centre's own norm does not change its ranking
    frame = torch.arange(len(centre), device=centre.device).unsqueeze(-1)
    similarity = (keys[frame, centre] @ keys.mT).div_(norms.unsqueeze(1))
    similarity.masked_fill_(~valid.unsqueeze(1), -torch.inf)
    similarity.scatter_(2, centre.unsqueeze(2), -torch.inf)
    largest, near = similarity.topk(min(number + 1, similarity.shape[-1]))
    if largest.shape[-1] > number:
        # topk takes any of equal entries: where the last one in equals the first one out, the
        # lower index decides
        tied = (largest[..., -1] == largest[..., -2]) & largest[..., -1].isfinite()
        near[tied] = ops.ranking(similarity[tied])[..., : number + 1]
    real = largest[..., :number].isfinite()
    counts = valid.sum(-1)
    start = (counts.cumsum(0) - counts).view(-1, 1, 1)
    one_of = torch.arange(width, device=centre.device) < centres.unsqueeze(-1)
    return (near[..., :number] * real + start)[one_of], real[one_of]


@exact
def nearest_centre(
    keys: Float[Tensor, "f m k"], centre: Int[Tensor, "f c"], counts: Int[Tensor, "f"]
) -> Int[Tensor, "f m"]:
    """Which of the first `counts[f]` centres each token is nearest to by key cosine."""
    keys, frame = keys.float(), torch.arange(len(keys), device=keys.device).unsqueeze(-1)
    # a token's own norm does not change which centre is nearest
    similarity = functional.normalize(keys[frame, centre], dim=-1) @ keys.mT
    column = torch.arange(centre.shape[1], device=keys.device)
    absent = column >= counts.unsqueeze(-1)
    similarity.masked_fill_(absent.unsqueeze(-1), -torch.inf)
    # along the last axis it is ten times faster
    return similarity.mT.contiguous().argmax(dim=-1)


def sums(
    features: Float[Tensor, "n d"], members: Int[Tensor, "q b"], weight: Float[Tensor, "q b"]
) -> Float[Tensor, "q d"]:
    """The weighted sum of the features of each row of `members`, without writing them out first."""
    return functional.embedding_bag(members, features, mode="sum", per_sample_weights=weight)


def sums_of_runs(
    features: Float[Tensor, "n d"],
    members: Int[Tensor, "r"],
    start: Int[Tensor, "q"],
    weight: Float[Tensor, "r"] | None = None,
) -> Float[Tensor, "q d"]:
    """The same for runs of `members`: the first begins at `start[0]`, the last ends with them."""
    return functional.embedding_bag(members, features, start, mode="sum", per_sample_weights=weight)


def sums_by_frame(
    features: Float[Tensor, "n d"], counts: Int[Tensor, "f"], weight: Float[Tensor, "n"]
) -> Float[Tensor, "f d"]:
    """The weighted sum of all features of each frame."""
    every = torch.arange(len(features), device=features.device)
    return sums_of_runs(features, every, counts.cumsum(0) - counts, weight)


class Gathered(NamedTuple):
    """Tokens that went to their leaders.

    rows: the leaders, ascending
    members: the place among them where each token went, -1 of none
    sums: of the features of each leader and its followers, in float32
    """

    rows: Int[Tensor, "q"]
    members: Int[Tensor, "n"]
    sums: Float[Tensor, "q d"]

    @property
    def sizes(self) -> Int[Tensor, "q"]:
        return torch.bincount(self.members[self.members >= 0], minlength=len(self.rows))

    @property
    def means(self) -> Float[Tensor, "q d"]:
        return self.sums / self.sizes.unsqueeze(-1)


def to_leaders(
    features: Float[Tensor, "n d"],
    leader: Int[Tensor, "n"],
    weight: Float[Tensor, "n"] | None = None,
) -> Gathered:
    """Every token goes to the row of its `leader`, a leader to itself, and -1 nowhere.

    Sums are those of `weight` times feature where there is one.
    """
    rows = (leader == torch.arange(len(leader), device=leader.device)).nonzero().squeeze(-1)
    place = torch.full_like(leader, -1).scatter(
        0, rows, torch.arange(len(rows), device=rows.device)
    )
    members = torch.where(leader < 0, -1, place[leader])
    going = (leader >= 0).nonzero().squeeze(-1)
    target, order = members[going].sort(stable=True)
    start = torch.searchsorted(target, torch.arange(len(rows), device=rows.device))
    token = going[order]
    weight = None if weight is None else weight[token]
    return Gathered(rows, members, sums_of_runs(features.float(), token, start, weight))


def onwards(members: Int[Tensor, "m"], first: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Where tokens end that went to `first` and from there to `members`; -1 was lost on the way."""
    return functional.pad(members, (0, 1), value=-1)[first]


@exact
def absorbed(
    features: Float[Tensor, "n d"],
    priority: Float[Tensor, "n"],
    kept: Bool[Tensor, "n"],
    halving: bool = False,
) -> Float[Tensor, "q d"]:
    """The kept tokens, each the mean of itself and the others to which it is the nearest by cosine.

    Ties: the kept token with more priority. `halving`: the others are averaged with it one after
    the other, so that later ones weigh more.
    """
    number = kept.sum().view(1)
    centre = ops.ranking(priority, kept)[: int(number)]
    nearest = nearest_centre(features.unsqueeze(0), centre.unsqueeze(0), number)[0]
    own = torch.arange(len(kept), device=kept.device)
    leader = torch.where(kept, own, centre[nearest])
    if not halving:
        return to_leaders(features, leader).means
    run, order = (2 * leader + ~kept).sort(stable=True)  # a kept token before its followers
    turn = (own - torch.searchsorted(run // 2, run // 2))[order.argsort()]
    halvings = torch.bincount(leader)[leader] - turn - kept.long()
    return to_leaders(features, leader, 0.5 ** halvings.float()).sums


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
