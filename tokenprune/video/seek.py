"""Chosen frames of a long video without decoding what lies between them, or nothing at all where that is not exact."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tokenprune.video.container import Index, Packet
from tokenprune.video.pixels import Canvas

_SEEKABLE = {"mp4", "matroska"}  # containers that know where their pictures are, and when each is shown


class Stretch(NamedTuple):
    """Packets to decode in one go, by their places in decoding order; both are decoded."""

    first: int
    last: int


def by_seeking(container: InputContainer, stream: VideoStream, index: Index, wanted: Sequence[int]) -> Canvas | None:
    """The frames numbered `wanted`, as a sequential pass gives them; None where that is not sure.

    The last frame is decoded in any case: a file whose end cannot be decoded is not whole. Every stretch has to give
    exactly the pictures that its packets announce, which two fields in two packets, packets without a picture, and
    decoders that drop some do not.
    """
    if not _SEEKABLE & set(container.format.name.split(",")):
        return None
    packets, shown = index.packets, index.shown
    if shown is None or any(p.corrupt or p.pts is None for p in packets):
        return None
    place = {p.pts: number for number, p in enumerate(packets)}
    if len(place) < len(packets):
        return None
    rows = {shown[number]: row for row, number in enumerate(wanted)}
    stretches = plan(packets, [place[pts] for pts in sorted({*rows, shown[-1]})])
    if stretches == [Stretch(0, len(packets) - 1)]:
        return None  # nothing to skip
    try:
        return _filled(container, stream, packets, place, stretches, rows)
    except FFmpegError:  # decoding everything finds out what is wrong
        return None


def _filled(
    container: InputContainer,
    stream: VideoStream,
    packets: Sequence[Packet],
    place: dict[int | None, int],
    stretches: Sequence[Stretch],
    rows: dict[int, int],
) -> Canvas | None:
    """The pictures of `rows`, by their times, out of `stretches` that all give what they announce."""
    canvas, size, missing = Canvas(len(rows)), None, set(rows)
    for stretch in stretches:
        expected = iter(_expected(packets, stretch))
        for frame in _decoded(container, stream, packets, place, stretch):
            if frame.pts is not None and stretch.first and frame.pts < packets[stretch.first].pts:
                continue  # of an open group: not for this stretch, and not whole
            size = size or (frame.width, frame.height)
            if frame.pts != next(expected, None) or size != (frame.width, frame.height):
                return None
            if frame.pts in rows:
                canvas.put(rows[frame.pts], frame)
                missing.discard(frame.pts)
        if next(expected, None) is not None:
            return None
    return None if missing else canvas


def plan(packets: Sequence[Packet], targets: Sequence[int]) -> list[Stretch]:
    """The shortest stretches that begin where decoding can and hold `targets`, which are in the order of display."""
    entries = [number for number, packet in enumerate(packets) if packet.entry and number]
    found: list[Stretch] = []
    for target in targets:
        at = bisect_right(entries, target)
        while at and packets[entries[at - 1]].pts > packets[target].pts:  # pyright: ignore[reportOptionalOperand]
            at -= 1  # shown before that entry, decoded after it
        first = entries[at - 1] if at else 0
        if found and first <= found[-1].last + 1:
            found[-1] = Stretch(found[-1].first, max(found[-1].last, target))
        else:
            found.append(Stretch(first, target))
    return found


def _expected(packets: Sequence[Packet], stretch: Stretch) -> list[int]:
    """Times of the pictures that a stretch shows, in order; those before its entry do not count."""
    inside = packets[stretch.first : stretch.last + 1]
    begin = packets[stretch.first].pts if stretch.first else None
    times = [p.pts for p in inside if p.pts is not None and not p.hidden]
    return sorted(time for time in times if begin is None or time >= begin)


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    packets: Sequence[Packet],
    place: dict[int | None, int],
    stretch: Stretch,
) -> Iterator[VideoFrame]:
    """The frames of a stretch; too few of them where the container does not lead to its first packet."""
    start = packets[stretch.first].pts
    assert start is not None
    container.seek(start, stream=stream)  # to it or before it, and forgets what the decoder knew
    at = None
    for packet in container.demux(stream):
        if not packet.size:
            return
        number = place.get(packet.pts)
        if number is None or packets[number].size != packet.size or (at is None and number > stretch.first):
            return
        if at is not None and number != at + 1:
            return
        if number >= stretch.first:
            at = number
            yield from stream.decode(packet)
        elif at is not None:
            return
        if number == stretch.last:
            yield from stream.decode(None)
            return
