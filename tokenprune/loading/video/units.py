"""Units of H.264 and HEVC: their first bytes say what a packet is, without decoding it."""

from __future__ import annotations

from collections.abc import Iterator


def length_width(codec: str, extradata: bytes | None) -> int | None:
    """Bytes of the length that stands before each unit in MP4 and Matroska.

    None for other codecs, and for start codes instead of lengths, as in MPEG-TS. `extradata` is the
    decoder's configuration as the container stores it.
    """
    at = {"h264": 4, "hevc": 21}.get(codec)
    if at is None or not extradata or extradata[0] != 1 or len(extradata) <= at:
        return None
    return (extradata[at] & 3) + 1


def heads(packet: memoryview, width: int) -> Iterator[int]:
    """The first two bytes of each unit of a packet, as one number; 0 stands for a missing byte."""
    at = 0
    while at + width < len(packet):
        first = at + width
        yield packet[first] << 8 | (packet[first + 1] if first + 1 < len(packet) else 0)
        at = first + int.from_bytes(packet[at:first], "big")
