"""Which frames of a video are shown: evenly by number or by the clock, also of a short one."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tokenprune.errors import VideoError
from tokenprune.options import SAMPLINGS, SHORTS


class Spread(NamedTuple):
    """How frames are chosen from a video."""

    frames: int
    sampling: str = "index"  # evenly by frame number, or by the clock (`time`)
    # of a video that has fewer: each frame `once`, or `repeat` some, so that there are always
    # as many
    short: str = "once"

    def check(self, path: Path) -> None:
        """Raises VideoError."""
        if self.frames < 1:
            raise VideoError(f"{self.frames} frames of {path} make no video: ask for at least 1")
        if self.sampling not in SAMPLINGS:
            raise VideoError(f"sampling={self.sampling} is unknown: write {' or '.join(SAMPLINGS)}")
        if self.short not in SHORTS:
            raise VideoError(f"short={self.short} is unknown: write {' or '.join(SHORTS)}")


def frame_indices(count: int, frames: int, short: str = "once") -> list[int]:
    """`frames` indices spread evenly from the first to the last of `count`, truncated; all if there
    are fewer.

    The rule of the field's evaluation codes, `linspace(0, count - 1, frames)` as integers. With
    `short="repeat"` it is theirs to the letter: NumPy's, whose rounding takes the frame before in
    one video of a hundred, and always `frames` of them.
    """
    if short == "repeat":
        return np.linspace(0, count - 1, frames, dtype=int).tolist()
    if count <= frames:
        return list(range(count))
    return [i * (count - 1) // max(1, frames - 1) for i in range(frames)]


def time_indices(times: Sequence[int], frames: int, short: str = "once") -> list[int]:
    """Indices of the pictures that are shown at `frames` moments spread evenly from the first
    picture to the last.

    `times` are when each picture appears, in ticks, increasing. A picture that stays for several
    moments is taken once, unless `short="repeat"`. Where pictures follow one another evenly these
    are `frame_indices`, but for the rounding of the clock.
    """
    if len(times) <= frames and short == "once":
        return list(range(len(times)))
    if len(times) == 1:
        return [0] * frames
    span = Fraction(times[-1] - times[0], max(1, frames - 1))
    # a fine clock, as Matroska's of milliseconds, has rounded up to a tick away; a coarse one
    # counts pictures
    rounded = int(min(later - time for time, later in itertools.pairwise(times)) > 8)
    moments = (times[0] + number * span + rounded for number in range(frames))
    shown = [bisect_right(times, moment) - 1 for moment in moments]
    return shown if short == "repeat" else list(dict.fromkeys(shown))


def choose(path: Path, count: int, times: list[int] | None, spread: Spread) -> list[int]:
    """Numbers of the frames that are shown of `count`, in order. Raises VideoError."""
    frames, sampling, short = spread
    if sampling == "index" or (count <= frames and short == "once"):
        return frame_indices(count, frames, short)
    if times is None:
        raise VideoError(f"{path} does not say when its pictures are shown: write sampling=index")
    return time_indices(times, frames, short)
