"""Frames of a video file, by PyAV: any container and codec that FFmpeg reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from tokenprune.errors import VideoError
from tokenprune.loading.video.choice import Spread, choose, frame_indices, time_indices
from tokenprune.loading.video.container import Index, in_order, opened, scan
from tokenprune.loading.video.pixels import Canvas
from tokenprune.loading.video.seek import by_seeking
from tokenprune.loading.video.whole import check_whole

__all__ = ["Clip", "Spread", "frame_indices", "read_clip", "read_frames", "time_indices"]


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


def read_frames(path: str | Path, frames: int = 32) -> UInt8[Tensor, "f h w 3"]:
    """`frames` RGB frames spread evenly over a video; every one if it is shorter, never a repeated
    one.

    A rotation by quarter turns in the metadata is applied. Raises VideoError.
    """
    return read_clip(path, frames).frames


def read_clip(path: str | Path, frames: int, sampling: str = "index", short: str = "once") -> Clip:
    """As `read_frames`, with times; `sampling` by frame number (`index`) or by the clock (`time`).

    A video with fewer frames than asked for shows each `once`, or, with `short="repeat"`, some of
    them again and again, so that there are always as many.

    Seeks to the chosen frames where that gives the pixels of decoding everything; else decodes
    everything and holds the chosen frames only, twice where the container does not state how many
    there are, or wrongly. Raises VideoError, also for a truncated file.
    """
    path, spread = Path(path), Spread(frames, sampling, short)
    spread.check(path)
    with opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        index = scan(container, stream)
        if not index.packets:
            raise VideoError(f"{path} holds no frame: its video stream is empty")
        if (times := index.shown) is not None and index.end is not None:
            check_whole(path, container, stream, len(times), *index.seconds(times, index.end))
            wanted = choose(path, len(times), times, spread)
            if (canvas := by_seeking(container, stream, index, _once(wanted))) is not None:
                return _clip(canvas, wanted, times, index)
    return _sequential(path, index, spread)


def _once(wanted: Sequence[int]) -> list[int]:
    """Each frame to decode."""
    return list(dict.fromkeys(wanted))


def _clip(canvas: Canvas, wanted: Sequence[int], times: Sequence[int] | None, index: Index) -> Clip:
    """`canvas` holds each of the `wanted` frames once."""
    seconds = None
    if times is not None:
        seconds = tuple(float((times[number] - times[0]) * index.tick) for number in wanted)
    frames, places = canvas.frames(), {number: row for row, number in enumerate(_once(wanted))}
    if len(places) < len(wanted):
        frames = frames[[places[number] for number in wanted]]
    return Clip(frames, seconds, tuple(wanted))


def _sequential(path: Path, index: Index, spread: Spread) -> Clip:
    """By decoding everything, until what was chosen beforehand is what has to be chosen of what
    there is.
    """
    count = sum(1 for packet in index.packets if not packet.hidden)
    known = spread.sampling == "index" or index.shown is not None
    wanted = choose(path, count, index.shown, spread) if known else []
    found = _decode(path, _once(wanted), index)
    if (right := choose(path, found.count, found.times, spread)) != wanted:
        # the first pass's pictures are gone before the second's are held
        found, wanted = None, right
        found = _decode(path, _once(wanted), index)
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
