"""Where decoding can begin: packets after which nothing before them matters, told by their first
bytes.

A container's keyframe flag is not enough: pictures behind a key picture of an open group, or behind
a recovery point, may still depend on what came before it.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenprune.loading.video.units import heads, length_width

EntryTest = Callable[[memoryview], bool]  # of a packet that the container calls a key picture

_EVERY_PICTURE = ("mjpeg", "prores", "dnxhd")  # codecs without prediction from other pictures


def entry_test(codec: str, extradata: bytes | None) -> EntryTest | None:
    """How to tell entry points of a stream; None for codecs, and forms of them, that are always
    decoded from the start.

    `extradata` is the decoder's configuration as MP4 and Matroska store it.
    """
    if codec in _EVERY_PICTURE:
        return lambda packet: True
    if codec in ("h264", "hevc"):
        width = length_width(codec, extradata)
        if width is None:  # start codes, as in MPEG-TS
            return None
        if codec == "h264":
            return lambda packet: any(head >> 8 & 31 == 5 for head in heads(packet, width))  # IDR
        # BLA, IDR, CRA: what is shown after them does not reach back behind them
        return lambda packet: any(16 <= head >> 9 & 63 <= 21 for head in heads(packet, width))
    return {"mpeg4": _mpeg4, "libdav1d": _av1, "av1": _av1, "vp9": _vp9, "libvpx-vp9": _vp9}.get(
        codec
    )


def _mpeg4(packet: memoryview) -> bool:
    """An I-VOP: the pictures shown after it use nothing before it."""
    data = bytes(packet)
    at = data.find(b"\x00\x00\x01\xb6")
    return 0 <= at < len(data) - 4 and data[at + 4] >> 6 == 0


def _vp9(packet: memoryview) -> bool:
    """A key frame that is shown, of profiles 0 to 2."""
    head = packet[0]
    return head & 0b1100_1110 == 0b1000_0010 and head & 0b0011_0000 != 0b0011_0000


def _av1(packet: memoryview) -> bool:
    """A temporal unit whose first frame is a key frame that is shown."""
    at, sequence = 0, False
    while at < len(packet):
        head = packet[at]
        kind, at = head >> 3 & 15, at + 1 + (head >> 2 & 1)
        if not head & 2:  # no size: the rest of the packet
            size = len(packet) - at
        else:
            size, shift = 0, 0
            while at < len(packet):
                byte, at = packet[at], at + 1
                size, shift = size | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
        if kind == 1:
            sequence = True
        elif kind in (3, 6):  # a frame header, a frame
            return sequence and at < len(packet) and packet[at] & 0b1111_0000 == 0b0001_0000
        at += size
    return False
