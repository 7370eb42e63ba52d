"""Chosen frames of a long video without decoding what lies between them, or nothing at all where
that is not exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tokenprune.loading.video.container import Index, Packet
from tokenprune.loading.video.pixels import Canvas

# containers that know where their pictures are, and when each is shown
_SEEKABLE = {"mp4", "matroska"}


class Stretch(NamedTuple):
    """Packets to decode in one go, by their places in decoding order; both are decoded."""

    first: int
    last: int


def by_seeking(
    container: InputContainer, stream: VideoStream, index: Index, wanted: Sequence[int]
) -> Canvas | None:
    """The frames numbered `wanted`, as a sequential pass gives them; None where that is not sure.

    The last frame is decoded in any case: a file whose end cannot be decoded is not whole. Every
    stretch has to give exactly the pictures that its packets announce, which two fields in two
    packets, packets without a picture, and decoders that drop some do not.
    """
    packets, shown = index.packets, index.shown
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.corrupt]
    if not _SEEKABLE & set(container.format.name.split(",")) or shown is None:
        return None
    if len(set(times)) < len(packets):
        return None
    rows = {shown[number]: row for row, number in enumerate(wanted)}
    place = {time: number for number, time in enumerate(times)}
    stretches = plan(
        times,
        [packet.entry for packet in packets],
        [place[time] for time in sorted({*rows, shown[-1]})],
    )
    if stretches == [Stretch(0, len(packets) - 1)]:
        return None  # nothing to skip
    canvas, size, missing = Canvas(len(rows)), None, set(rows)
    try:
        for stretch in stretches:
            begin = times[stretch.first] if stretch.first else min(times)
            inside = packets[stretch.first : stretch.last + 1]
            expected = iter(
                sorted(
                    p.pts for p in inside if p.pts is not None and p.pts >= begin and not p.hidden
                )
            )
            for frame in _decoded(container, stream, packets, place, stretch):
                if frame.pts is not None and frame.pts < begin:
                    continue  # of an open group: not for this stretch, and not whole
                size = size or (frame.width, frame.height)
                if frame.pts != next(expected, None) or size != (frame.width, frame.height):
                    return None
                if frame.pts in missing:
                    canvas.put(rows[frame.pts], frame)
                    missing.remove(frame.pts)
            if next(expected, None) is not None:
                return None
    except FFmpegError:  # decoding everything finds out what is wrong
        return None
    return None if missing else canvas


def plan(times: Sequence[int], entries: Sequence[bool], targets: Sequence[int]) -> list[Stretch]:
    """The shortest stretches that begin where decoding can and hold `targets`, which are in the
    order of display.

    `times` are when packets are shown, `entries` whether decoding can begin at them, both in
    decoding order.
    """
    begins = [number for number, entry in enumerate(entries) if entry and number]
    found: list[Stretch] = []
    for target in targets:
        at = bisect_right(begins, target)
        while at and times[begins[at - 1]] > times[target]:
            at -= 1  # shown before that entry, decoded after it
        first = begins[at - 1] if at else 0
        if found and first <= found[-1].last + 1:
            found[-1] = Stretch(found[-1].first, max(found[-1].last, target))
        else:
            found.append(Stretch(first, target))
    return found


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    packets: Sequence[Packet],
    place: Mapping[int, int],
    stretch: Stretch,
) -> Iterator[VideoFrame]:
    """The frames of a stretch; too few of them where the container does not lead to its first
    packet.
    """
    start = packets[stretch.first].pts
    assert start is not None, "every packet has its time"
    container.seek(start, stream=stream)  # to it or before it, and forgets what the decoder knew
    due = stretch.first
    for packet in container.demux(stream):
        number = None if packet.pts is None else place.get(packet.pts)
        if number is None or packets[number].size != packet.size or number > due:
            return
        if number < stretch.first:
            continue
        if number < due:
            return
        due += 1
        yield from stream.decode(packet)
        if number == stretch.last:
            yield from stream.decode(None)
            return
