"""Sums of tokens that resemble each other: pure parts of methods that merge tokens.

Axes as in `ops`, and `c` centres, `k` key width, `b` members of a centre, `q` sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, pairwise
from operator import add
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops
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
    means: of each leader and its followers, in float32
    """

    rows: Int[Tensor, "q"]
    members: Int[Tensor, "n"]
    means: Float[Tensor, "q d"]


def to_leaders(
    features: Float[Tensor, "n d"], leader: Int[Tensor, "n"], number: int, lost: int
) -> Gathered:
    """Every token goes to the row of its `leader`, a leader to itself, and -1 nowhere.

    There are `number` leaders, and `lost` tokens go nowhere.
    """
    leads = leader == torch.arange(len(leader), device=leader.device)
    rows = ops.marked(leads, number)
    members = torch.where(leader < 0, -1, (leads.cumsum(0) - 1)[leader])
    return Gathered(rows, members, means(features.float(), leader, rows, lost))


def means(
    features: Float[Tensor, "n d"],
    leader: Int[Tensor, "n"],
    leaders: Int[Tensor, "q"],
    lost: int = 0,
) -> Float[Tensor, "q d"]:
    """The mean of what each of `leaders` leads, which ascend; zero of who leads nothing.

    -1 leads `lost` tokens, one of `leaders` each of the others.
    """
    run, token = leader.sort(stable=True)
    if lost:  # they come first
        run, token = run[lost:], token[lost:]
    return functional.embedding_bag(token, features, torch.searchsorted(run, leaders), mode="mean")


def onwards(members: Int[Tensor, "m"], first: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Where tokens end that went to `first` and from there to `members`; -1 was lost on the way."""
    return functional.pad(members, (0, 1), value=-1)[first]


class Anchors(NamedTuple):
    """Which tokens of a video are anchors, and who may join them, as the host plans it.

    Anchors are counted through, frame after frame. A token may join those of up to `reach` frames.

    Args:
        salient: how many tokens of each frame stay as they are
        frame: those with anchors
        start: the first row of each of these
        left: how many of its tokens are not salient
        number: how many of these are anchors
        cell: places of anchors where each frame's are padded to the most
        begins: `[f 3 reach]`, flat: for the tokens of a frame that only join, that are anchors and
            that are salient, where the anchors that they may join begin; behind all where none
        reach: most frames with anchors of a segment, at least 1
        joining: how many times a token joins
        segments: of each, its tokens and its frames with anchors
        kept: how many tokens of each frame are salient or anchors
    """

    salient: list[int]
    frame: list[int]
    start: list[int]
    left: list[int]
    number: list[int]
    cell: list[int]
    begins: list[int]
    reach: int
    joining: int
    segments: list[tuple[int, int]]
    kept: list[int]

    def sent(self, device: torch.device) -> list[Int[Tensor, "_"]]:
        """The lists from `salient` to `begins` on a device, in one transfer."""
        return hosted.sent_together(self[:7], device)


def planned(
    lengths: Sequence[int],
    counts: Sequence[int],
    shares: Iterable[tuple[int, int, bool]],
    others: bool,
) -> Anchors:
    """The plan of segments of so many frames, from each frame's salient tokens and anchors.

    Tokens that are not salient join anchors in all frames of their segment; those of an `alone`
    frame, the third of its shares, take tokens of this frame only. `others`: the anchors of a frame
    do not join each other, nor themselves.
    """
    salient, anchors, alone = map(list, zip(*shares, strict=True))
    *first, none = accumulate(anchors, initial=0)
    segments, rows, joining = [], [], 0
    for begin, end in pairwise(accumulate(lengths, initial=0)):
        held = [frame for frame in range(begin, end) if anchors[frame]]
        segments.append((sum(counts[begin:end]), len(held)))
        for frame in range(begin, end):
            to = [first[one] if one == frame or not alone[one] else none for one in held]
            own = held.index(frame) if anchors[frame] and others else -1
            apart = [none if place == own else at for place, at in enumerate(to)]
            rows += [to, apart, []]
            only = counts[frame] - salient[frame] - anchors[frame]
            joining += sum(only * (at < none) for at in to)
            joining += sum(anchors[frame] * (at < none) for at in apart)
    frame = [one for one, number in enumerate(anchors) if number]
    before, most, reach = [*accumulate(counts, initial=0)], max(anchors), max(1, *map(len, rows))
    return Anchors(
        salient,
        frame,
        [before[one] for one in frame],
        [counts[one] - salient[one] for one in frame],
        [anchors[one] for one in frame],
        [most * at + column for at, one in enumerate(frame) for column in range(anchors[one])],
        [at for row in rows for at in (*row, *[none] * (reach - len(row)))],
        reach,
        joining,
        segments,
        [*map(add, salient, anchors)],
    )


def left_rows(
    taken: Bool[Tensor, "f m"],
    real: Bool[Tensor, "f m"],
    frame: Int[Tensor, "a"],
    start: Int[Tensor, "a"],
    most: int,
    rows: int,
) -> Int[Tensor, "a r"]:
    """Of some frames, which begin in rows `start`, the rows that are not `taken`, in order.

    They are up to `most` of a frame; behind them stand others of the video's `rows`.
    """
    whole = hosted.all_true(real)
    taken = taken if whole else taken | ~real
    place = taken.index_select(0, frame).argsort(dim=-1, stable=True)[:, : max(1, most)]
    row = place + start.unsqueeze(-1)
    return row if whole else row.clamp_(max=rows - 1)


class Anchored(NamedTuple):
    """What became of anchors.

    features: of each, in float32
    first: of each token, the first anchor that it joined; of none, their number or more
    """

    features: Float[Tensor, "q d"]
    first: Int[Tensor, "n"]


@exact
def to_anchors(
    features: Float[Tensor, "n d"],
    anchor: Int[Tensor, "a c"],
    real: Bool[Tensor, "a c"] | None,
    row: Int[Tensor, "q"],
    begins: Int[Tensor, "n r"],
    plan: Anchors,
    beta: float,
) -> Anchored:
    """Tokens join the nearest anchor by cosine of each frame that is open to them.

    Anchors stand in the rows `anchor` of each frame that has any, as far as they are `real` (None:
    all); `row` has these alone. `begins` is that of the `plan` for each token. An anchor
    weighs `beta` beside the mean of those that joined it, at least as much as each of them. Ties:
    the anchor that is listed first.
    """
    point = functional.embedding(anchor, features)
    unit = point / point.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    column = begins + _nearest(features, unit, real, plan)
    ordered, pair = column.flatten().sort(stable=True)
    bounds = torch.searchsorted(ordered, torch.arange(len(row) + 1, device=row.device))
    member = pair[: plan.joining] // plan.reach
    # means, as of functional.embedding_bag, and how many there are of each
    mean, _, number, _ = torch.embedding_bag(
        features, member, bounds, mode=1, include_last_offset=True
    )
    # the mean of none is zero, and weighs nothing
    own = (number.unsqueeze(-1) + 1).reciprocal().clamp(min=beta)
    return Anchored(mean.lerp(functional.embedding(row, features), own), column.amin(-1))


def _nearest(
    features: Float[Tensor, "n d"],
    unit: Float[Tensor, "a c d"],
    real: Bool[Tensor, "a c"] | None,
    plan: Anchors,
) -> Int[Tensor, "n r"]:
    """Which anchor of each frame of its segment is the nearest to a token, arbitrary of none.

    One product for segments of the same form that follow each other: padded to the longest, all of
    them would be several times as large. The largest tensor is `n r c`.
    """
    (_, width, depth), parts = unit.shape, []
    runs = [(*form, len([*same])) for form, same in groupby(plan.segments)]
    tokens = features.split([rows * segments for rows, _, segments in runs])
    held = [frames * segments for _, frames, segments in runs]
    masks = [None] * len(runs) if real is None else real.split(held)
    pieces = zip(runs, tokens, unit.split(held), masks, strict=True)
    for (rows, frames, segments), token, centre, there in pieces:
        centre = centre.reshape(segments, frames * width, depth)
        similar = token.view(segments, rows, depth).bmm(centre.mT)
        if there is not None:
            similar.masked_fill_(~there.reshape(segments, 1, frames * width), -torch.inf)
        lacking = (plan.reach - frames) * width
        similar = functional.pad(similar, (0, lacking)) if lacking else similar
        parts.append(similar.view(segments * rows, plan.reach, width))
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).argmax(-1)
