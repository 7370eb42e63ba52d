"""Frames of a video file, by PyAV: any container and codec that FFmpeg reads."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from tokenprune.errors import VideoError
from tokenprune.loading.video.container import Index, in_order, opened, scan
from tokenprune.loading.video.pixels import Canvas
from tokenprune.loading.video.seek import by_seeking
from tokenprune.loading.video.whole import check_whole
from tokenprune.options import SAMPLINGS


class Clip(NamedTuple):
    """Frames of a video."""

    frames: UInt8[Tensor, "f h w 3"]  # RGB, upright
    # seconds from the first picture; None where the file does not say
    times: tuple[float, ...] | None
    indices: tuple[int, ...]  # the frames' numbers in the video

    @property
    def duration(self) -> float | None:
        """Seconds from the first picture to the end of the last one shown, at the mean rate.

        Of frames spread evenly by number that is the whole video. None where `times` is.
        """
        if self.times is None:
            return None
        last = self.indices[-1]
        return self.times[-1] * (last + 1) / last if last else 0.0


@dataclass(frozen=True)
class _Decoded:
    """What a sequential pass found."""

    canvas: Canvas | None
    count: int
    times: list[int] | None


def frame_indices(count: int, frames: int) -> list[int]:
    """`frames` indices spread evenly from the first to the last of `count`, truncated; all if there
    are fewer.

    The rule of the field's evaluation codes, `linspace(0, count - 1, frames)` as integers.
    """
    if count <= frames:
        return list(range(count))
    return [i * (count - 1) // max(1, frames - 1) for i in range(frames)]


def time_indices(times: Sequence[int], frames: int) -> list[int]:
    """Indices of the pictures that are shown at `frames` moments spread evenly from the first
    picture to the last.

    `times` are when each picture appears, in ticks, increasing. A picture that stays for several
    moments is taken once. Where pictures follow one another evenly these are `frame_indices`, but
    for the rounding of the clock.
    """
    if len(times) <= frames:
        return list(range(len(times)))
    span = Fraction(times[-1] - times[0], max(1, frames - 1))
    # a fine clock, as Matroska's of milliseconds, has rounded up to a tick away; a coarse one
    # counts pictures
    rounded = int(min(later - time for time, later in itertools.pairwise(times)) > 8)
    moments = (times[0] + number * span + rounded for number in range(frames))
    return list(dict.fromkeys(bisect_right(times, moment) - 1 for moment in moments))


def read_frames(path: str | Path, frames: int) -> UInt8[Tensor, "f h w 3"]:
    """`frames` RGB frames spread evenly over a video; every one if it is shorter, never a repeated
    one.

    A rotation by quarter turns in the metadata is applied. Raises VideoError.
    """
    return read_clip(path, frames).frames


def read_clip(path: str | Path, frames: int, sampling: str = "index") -> Clip:
    """As `read_frames`, with times; `sampling` by frame number (`index`) or by the clock (`time`).

    Seeks to the chosen frames where that gives the pixels of decoding everything; else decodes
    everything and holds the chosen frames only, twice where the container does not state how many
    there are, or wrongly. Raises VideoError, also for a truncated file.
    """
    path = Path(path)
    if frames < 1:
        raise VideoError(f"{frames} frames of {path} make no video: ask for at least 1")
    if sampling not in SAMPLINGS:
        raise VideoError(f"sampling={sampling} is unknown: write {' or '.join(SAMPLINGS)}")
    with opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        index = scan(container, stream)
        if not index.packets:
            raise VideoError(f"{path} holds no frame: its video stream is empty")
        if (times := index.shown) is not None and index.end is not None:
            check_whole(path, container, stream, len(times), *index.seconds(times, index.end))
            wanted = _choose(path, len(times), times, frames, sampling)
            if (canvas := by_seeking(container, stream, index, wanted)) is not None:
                return _clip(canvas, wanted, times, index)
    return _sequential(path, index, frames, sampling)


def _choose(
    path: Path, count: int, times: list[int] | None, frames: int, sampling: str
) -> list[int]:
    if sampling == "index" or count <= frames:
        return frame_indices(count, frames)
    if times is None:
        raise VideoError(f"{path} does not say when its pictures are shown: write sampling=index")
    return time_indices(times, frames)


def _clip(canvas: Canvas, wanted: Sequence[int], times: Sequence[int] | None, index: Index) -> Clip:
    seconds = None
    if times is not None:
        seconds = tuple(float((times[number] - times[0]) * index.tick) for number in wanted)
    return Clip(canvas.frames(), seconds, tuple(wanted))


def _sequential(path: Path, index: Index, frames: int, sampling: str) -> Clip:
    """By decoding everything, until what was chosen beforehand is what has to be chosen of what
    there is.
    """
    count = sum(1 for packet in index.packets if not packet.hidden)
    known = sampling == "index" or index.shown is not None
    wanted = _choose(path, count, index.shown, frames, sampling) if known else []
    found = _decode(path, wanted, index)
    if (right := _choose(path, found.count, found.times, frames, sampling)) != wanted:
        # the first pass's pictures are gone before the second's are held
        found, wanted = None, right
        found = _decode(path, wanted, index)
    assert found.canvas is not None, "a video of one frame has one chosen"
    return _clip(found.canvas, wanted, found.times, index)


def _decode(path: Path, wanted: Sequence[int], index: Index) -> _Decoded:
    """One pass over the whole video."""
    canvas = Canvas(len(wanted)) if wanted else None
    rows = {number: row for row, number in enumerate(wanted)}
    pts: list[int | None] = []
    with opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if canvas is not None and len(pts) in rows:
                canvas.put(rows[len(pts)], frame)
            pts.append(frame.pts)
        if not pts:
            raise VideoError(f"{path} holds no frame: its video stream is empty")
        times = in_order(pts)
        # packets are there, and their pictures are not
        if times is not None and len(pts) < len(index.packets):
            end = times[-1] + index.packets[-1].duration
            check_whole(path, container, stream, len(pts), *index.seconds(times, end))
    return _Decoded(canvas, len(pts), times)
