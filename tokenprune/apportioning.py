"""Splitting a number of tokens over frames in proportion to weights: on numbers of the host.

A few numbers, and many decisions about them: no device is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import c_float
from typing import Literal


def apportioned(
    weights: Sequence[float],
    total: int,
    cap: Sequence[int],
    follow: Literal["paper", "released"] = "paper",
) -> list[int]:
    """Exactly `total` tokens over frames by `weights`, at most `cap[f]` each; see `ops.apportion`.

    Proportions are rounded to float32, as they always were.
    """
    most = sum(cap)
    if not 0 <= total <= most:
        raise ValueError(
            f"{total} tokens do not fit: {len(cap)} frames hold at most {most} under their caps, "
            "raise the cap or keep fewer tokens"
        )
    mass = _single(math.fsum(weights))
    if not (mass > 0 and min(weights) >= 0 and max(weights) < math.inf):
        raise ValueError("frame weights must be finite, not negative and not all zero")
    ideal = [_single(_single(weight / mass) * total) for weight in weights]
    share = [int(part) for part in ideal]
    by_remainder = _descending([part - whole for part, whole in zip(ideal, share, strict=True)])
    left = total - sum(share)
    if left < 0:  # rounding made the floors too large: the smallest remainders give way
        given = in_turns(share, by_remainder[::-1], -left)
        share = [own - less for own, less in zip(share, given, strict=True)]
    elif follow == "released":
        for frame in by_remainder[:left]:
            share[frame] += 1
    else:
        room = [max(0, most - own) for own, most in zip(share, cap, strict=True)]
        share = _added(share, in_turns(room, by_remainder, left))
    within = [*map(min, share, cap)]
    if excess := sum(share) - sum(within):
        room = [most - own for own, most in zip(within, cap, strict=True)]
        within = _added(within, in_turns(room, _descending(weights), excess))
    return within


def in_turns(room: Sequence[int], order: Sequence[int], amount: int) -> list[int]:
    """`amount` tokens dealt one at a time in `order`, round after round, to whoever has room."""
    given, open_frames = [0] * len(room), [frame for frame in order if room[frame]]
    while amount and open_frames:
        # whole rounds at once, until the first is full
        rounds = min(amount // len(open_frames), min(room[f] - given[f] for f in open_frames))
        dealt = open_frames if rounds else open_frames[:amount]
        for frame in dealt:
            given[frame] += max(1, rounds)
        amount -= max(1, rounds) * len(dealt)
        open_frames = [frame for frame in open_frames if room[frame] > given[frame]]
    return given


def _added(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [one + other for one, other in zip(first, second, strict=True)]


def _descending(scores: Sequence[float]) -> list[int]:
    """Indices from the largest score to the smallest; ties by lower index."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def _single(value: float) -> float:
    """A number as float32 has it."""
    return c_float(value).value
