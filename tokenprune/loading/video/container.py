"""A video file, opened: its picture stream, what is in it packet by packet, and what FFmpeg objects
to in one line.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from tokenprune.compat import open_video, pictures
from tokenprune.errors import VideoError
from tokenprune.loading.video.entry import entry_test
from tokenprune.loading.video.spare import Use, spare, use_test


class Packet(NamedTuple):
    """One compressed picture, by what its container says of it; times are ticks of the stream's
    time base.
    """

    pts: int | None
    duration: int  # 0 where the container stores none
    size: int  # bytes
    entry: bool  # decoding can begin here and gives the pixels of decoding from the start
    hidden: bool  # decoded but not shown: outside of an edit list
    corrupt: bool
    spare: bool  # no other picture is made from this one


@dataclass(frozen=True)
class Index:
    """The packets of the picture stream in decoding order."""

    packets: list[Packet]
    tick: Fraction  # seconds

    @cached_property
    def shown(self) -> list[int] | None:
        """Times of the pictures in the order in which they are shown; None where they cannot be
        told apart.
        """
        return in_order([packet.pts for packet in self.packets if not packet.hidden])

    @property
    def end(self) -> int | None:
        """When the last picture ends, in ticks; its duration is that of its packet."""
        return max(
            (p.pts + p.duration for p in self.packets if p.pts is not None and not p.hidden),
            default=None,
        )

    def seconds(self, times: Sequence[int], end: int) -> tuple[float, float, float]:
        """When pictures at `times`, the last of them until `end`, begin and end, and how long one
        stays at most.
        """
        stay = max((later - time for time, later in itertools.pairwise(times)), default=0)
        return float(times[0] * self.tick), float(end * self.tick), float(stay * self.tick)


def in_order(pts: list[int | None]) -> list[int] | None:
    """Times of pictures, sorted: AVI numbers pictures in decoding order.

    None if one is missing or there twice.
    """
    known = [time for time in pts if time is not None]
    return sorted(known) if len(known) == len(pts) == len(set(known)) else None


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; whatever FFmpeg objects to within the block becomes a
    VideoError.
    """
    if path.is_dir():
        raise VideoError(f"{path} is a folder, not a video file")
    if not path.exists():
        raise VideoError(f"there is no video file {path}")
    try:
        # "file:" keeps a colon in a name from being read as a protocol
        with open_video(f"file:{path}") as container:
            if container.format.name == "tty":
                raise VideoError(f"{path} is a text file, not a video")
            if not (streams := pictures(container)):
                raise VideoError(
                    f"{path} holds sound but no video"
                    if container.streams.audio
                    else f"{path} is truncated or corrupt: no video stream was found in it"
                )
            yield container, streams[0]
    except FFmpegError as error:
        if _is_animated_webp(path):
            said = (
                "is an animated WebP, which this FFmpeg cannot decode: convert it to MP4 or GIF "
                "first"
            )
            raise VideoError(f"{path} {said}") from None
        raise VideoError(
            f"{path} is not a video, or a truncated or corrupt one (FFmpeg: {error.strerror})"
        ) from None


def scan(container: InputContainer, stream: VideoStream) -> Index:
    """Reads all packets and decodes none."""
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    is_entry, use_of = entry_test(codec, extradata), use_test(codec, extradata)
    packets: list[Packet] = []
    uses: list[Use] = []
    for packet in container.demux(stream):
        if not packet.size:
            continue
        data = memoryview(packet)
        packets.append(
            Packet(
                pts=packet.pts,
                duration=packet.duration or 0,
                size=packet.size,
                entry=is_entry is not None and packet.is_keyframe and is_entry(data),
                hidden=packet.is_discard,
                corrupt=packet.is_corrupt,
                spare=False,
            )
        )
        if use_of is not None:
            uses.append(use_of(data))
    for number, unused in enumerate(spare(uses)):
        if unused:
            packets[number] = packets[number]._replace(spare=True)
    tick = stream.time_base
    return Index(packets, Fraction(tick.numerator, tick.denominator) if tick else Fraction(1))


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(64)
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"ANIM" in head
