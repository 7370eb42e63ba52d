"""Windows of frames that look alike, and their cells that stay the same: pure parts of methods.

Axes: `f` frames, `c` cells of a frame, `w` windows, `q` runs, `d` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, merging, ops
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


class Group(NamedTuple):
    """Units that are clustered together.

    frame: in which they stand
    sizes: of how many tokens each is made
    """

    frame: int
    sizes: list[int]


def groups(lengths: Sequence[int], still: Sequence[int], counts: Sequence[int]) -> list[Group]:
    """Those of windows that are `lengths` frames long, in order.

    First, in the first frame of each, `still` cells of all of its frames; then, frame by frame, all
    others of the `counts` tokens, each by itself.
    """
    found, last = [], 0
    for length, number in zip(lengths, still, strict=True):
        first, last = last, last + length
        found.append(Group(first, [length] * number))
        found += [Group(frame, [1] * (counts[frame] - number)) for frame in range(first, last)]
    return found


@exact
@torch.no_grad()  # it ranks
def moving(
    features: Float[Tensor, "f c d"],
    lengths: Sequence[int],
    similarity: float,
    follow: Follow,
    present: Bool[Tensor, "f c"] | None = None,
) -> Bool[Tensor, "w c"]:
    """Which cells do not stay the same, of windows that are `lengths` frames long.

    A cell stays where all pairs of frames have at least `similarity` on average, and where it is
    `present` in all of them, of which there are several.
    """
    device, cells = features.device, features.shape[1]
    frame = torch.arange(len(features), device=device)
    start = hosted.sent([*accumulate(lengths, initial=0)][:-1], device)
    norm = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    unit = features / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    sums = merging.sums_of_runs(unit.flatten(1), frame, start).unflatten(1, (cells, -1))
    # the squared sum of unit vectors is the sum of all cosines, those with themselves too
    themselves = merging.sums_of_runs(norm.sign().flatten(1), frame, start)
    pairs = [max(1.0, length * (length - 1.0)) for length in lengths]
    bars = [similarity if length > 1 else torch.inf for length in lengths]
    number, bar = hosted.moved(torch.tensor([pairs, bars]), device).unsqueeze(-1).unbind()
    mean = (sums.square().sum(-1) - themselves) / number
    found = mean < bar if follow == "paper" else mean <= bar
    if present is not None:
        there = merging.sums_of_runs(present.float(), frame, start)
        found = found | (there < hosted.sent(lengths, device).unsqueeze(-1))
    return found


def keys(
    row: Int[Tensor, "f c"], moves: Bool[Tensor, "w c"], lengths: Sequence[int], total: int
) -> Int[Tensor, "f c"]:
    """By which `total` tokens are ordered, each in its cell and in the place `row` of its video.

    In every frame first the cells that stay the same from there on, all of their tokens as the
    first one, and then those that move.
    """
    turn = torch.arange(total, 2 * len(row) * total, 2 * total, device=row.device)
    key = row + turn.unsqueeze(-1)
    first = [*accumulate(lengths, initial=0)]
    window = [number for number, length in enumerate(lengths) for _ in range(length)]
    begins = [first[number] for number in window]
    of, begin = hosted.sent_together((window, begins), row.device)
    return torch.where(moves[of], key, key[begin] - total)


class Plan(NamedTuple):
    """Which clusters the units of groups may join, all counted through.

    Args:
        sizes, start: of how many tokens each unit is made, and the first of them
        cluster: the first one of each unit's group, or its own where that is small
        some: units of groups that are not small, one after another
        large, number: how many each of these groups has, and into how many clusters they go
        left: how many clusters stand in each frame
    """

    sizes: list[int]
    start: list[int]
    cluster: list[int]
    some: list[int]
    large: list[int]
    number: list[int]
    left: list[int]


def planned(parts: Sequence[Group], frames: int, small: int, share: float) -> Plan:
    """Of each group that has more than `small` units a `share` is left, at least one, truncated."""
    plan, base = Plan([], [], [], [], [], [], [0] * frames), 0
    for frame, sizes in parts:
        there = len(sizes)
        if there > small:
            number = max(1, ops.count(there, share, "down"))
            plan.some.extend(range(len(plan.cluster), len(plan.cluster) + there))
            plan.cluster.extend([base] * there)
            plan.large.append(there)
            plan.number.append(number)
        else:
            number = there
            plan.cluster.extend(range(base, base + there))
        plan.sizes.extend(sizes)
        base += number
        plan.left[frame] += number
    plan.start.extend([*accumulate(plan.sizes, initial=0)][:-1])
    return plan
