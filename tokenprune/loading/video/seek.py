"""Chosen frames of a long video without decoding what lies between them, nor what they are not made
from; or nothing at all where that is not exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


class _Source(NamedTuple):
    """What frames are decoded from, and when each of its packets is shown."""

    container: InputContainer
    stream: VideoStream
    packets: Sequence[Packet]
    times: Sequence[int]  # in decoding order
    place: Mapping[int, int]  # the packet shown at each of them


class _Unsure(Exception):  # noqa: N818  a signal, not an error
    """Seeking has not given exactly what a sequential pass gives."""


def by_seeking(
    container: InputContainer, stream: VideoStream, index: Index, wanted: Sequence[int]
) -> Canvas | None:
    """The frames numbered `wanted`, as a sequential pass gives them; None where that is not sure.

    The last frame is decoded in any case: a file whose end cannot be decoded is not whole. Every
    stretch has to give exactly the pictures that its packets announce, which two fields in two
    packets, packets without a picture, and decoders that drop some do not.
    """
    source, shown = _source(container, stream, index), index.shown
    if source is None or shown is None:
        return None
    rows = {shown[number]: row for row, number in enumerate(wanted)}
    needed = {*rows, shown[-1]}
    parts = [_needed(source, part, needed) for part in _stretches(source, needed)]
    if sum(len(part) for part in parts) == len(source.packets):
        return None  # nothing to skip
    try:
        return _filled((frame for part in parts for frame in _announced(source, part)), rows)
    except (FFmpegError, _Unsure):  # decoding everything finds out what is wrong
        return None


def _source(container: InputContainer, stream: VideoStream, index: Index) -> _Source | None:
    """None where the container cannot seek to a picture, or packets are damaged or share a time."""
    packets = index.packets
    times = [packet.pts for packet in packets if packet.pts is not None and not packet.corrupt]
    place = {time: number for number, time in enumerate(times)}
    if not _SEEKABLE & set(container.format.name.split(",")) or len(place) < len(packets):
        return None
    return _Source(container, stream, packets, times, place)


def _needed(source: _Source, stretch: Stretch, targets: set[int]) -> dict[int, Packet]:
    """The packets of a stretch, by their places, that its `targets` are or may be made from."""
    inside = range(stretch.first, stretch.last + 1)
    return {
        at: packet
        for at, packet in zip(inside, source.packets[inside.start : inside.stop], strict=True)
        if not packet.spare or packet.pts in targets
    }


def _stretches(source: _Source, targets: set[int]) -> list[Stretch]:
    """What to decode for the pictures shown at the times `targets`."""
    entries = [packet.entry for packet in source.packets]
    return plan(source.times, entries, [source.place[time] for time in sorted(targets)])


def _filled(frames: Iterable[VideoFrame], rows: Mapping[int, int]) -> Canvas:
    """The frames shown at the times `rows`, each in its row; they all have to be there, and every
    frame has to be of one size.
    """
    canvas, size, missing = Canvas(len(rows)), None, set(rows)
    for frame in frames:
        size = size or (frame.width, frame.height)
        if size != (frame.width, frame.height):
            raise _Unsure
        if frame.pts in missing:
            canvas.put(rows[frame.pts], frame)
            missing.remove(frame.pts)
    if missing:
        raise _Unsure
    return canvas


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


def _announced(source: _Source, part: Mapping[int, Packet]) -> Iterator[VideoFrame]:
    """The frames of a part, in the order of display: one for each packet that is shown, and no
    other.
    """
    first = min(part)
    begin = source.times[first] if first else min(source.times)
    expected = iter(_shown_from(begin, part.values()))
    for frame in _decoded(source, part):
        if frame.pts is not None and frame.pts < begin:
            continue  # of an open group: not for this part, and not whole
        if frame.pts != next(expected, None):
            raise _Unsure
        yield frame
    if next(expected, None) is not None:
        raise _Unsure


def _shown_from(begin: int, packets: Iterable[Packet]) -> list[int]:
    """When those of `packets` that are shown at `begin` or later are shown, sorted."""
    return sorted(
        packet.pts
        for packet in packets
        if packet.pts is not None and packet.pts >= begin and not packet.hidden
    )


def _decoded(source: _Source, part: Mapping[int, Packet]) -> Iterator[VideoFrame]:
    """The frames of a part, packets by their places; too few of them where the container does not
    lead to its first packet.
    """
    container, stream, packets, times, place = source
    first, last = min(part), max(part)
    # to it or before it, and forgets what the decoder knew
    container.seek(times[first], stream=stream)
    due = first
    for packet in container.demux(stream):
        number = None if packet.pts is None else place.get(packet.pts)
        if number is None or packets[number].size != packet.size or number > due:
            return
        if number < first:
            continue
        if number < due:
            return
        due += 1
        if number in part:
            yield from stream.decode(packet)
        if number == last:
            yield from stream.decode(None)
            return
