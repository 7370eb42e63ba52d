"""Pictures that no other is made from, told by the first bytes of their packets: where such a
picture is not asked for, it need not be decoded.

Half of an ordinary H.264 or HEVC film are such pictures, and without them every other picture comes
out the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenprune.loading.video.units import heads, length_width


class Use(NamedTuple):
    """What a packet says of those that may be made from its picture."""

    leaf: bool  # none of its own layer or a lower one
    layer: int  # of HEVC's temporal layers; 0 for all other codecs


UseTest = Callable[[memoryview], Use]


def use_test(codec: str, extradata: bytes | None) -> UseTest | None:
    """None for codecs, and forms of them, of which this cannot be told from a few bytes.

    `extradata` as in `length_width`.
    """
    if codec == "mpeg4":
        return _mpeg4
    width = length_width(codec, extradata)
    if width is None:
        return None
    if codec == "h264":
        return lambda packet: _h264(packet, width)
    return lambda packet: _hevc(packet, width)


def spare(uses: Sequence[Use]) -> list[bool]:
    """Which of all packets of a stream no other needs: a leaf of its highest layer."""
    top = max((use.layer for use in uses), default=0)
    return [use.leaf and use.layer == top for use in uses]


def _h264(packet: memoryview, width: int) -> Use:
    """Slices (1 to 5) that say of themselves that they are no reference."""
    slices = [head >> 13 & 3 for head in heads(packet, width) if 1 <= head >> 8 & 31 <= 5]
    return Use(bool(slices) and not any(slices), 0)


def _hevc(packet: memoryview, width: int) -> Use:
    """Slices of an even type below 16 are no reference within their layer."""
    slices = [(head >> 9 & 63, head & 7) for head in heads(packet, width) if head >> 9 & 63 < 32]
    leaf = bool(slices) and all(kind < 16 and kind % 2 == 0 for kind, _ in slices)
    return Use(leaf, max((layer for _, layer in slices), default=0))


def _mpeg4(packet: memoryview) -> Use:
    """A B-VOP in front; a pair packed in one packet, as in AVI, begins with the other picture."""
    data = bytes(packet[:4096])
    at = data.find(b"\x00\x00\x01\xb6")
    return Use(0 <= at < len(data) - 4 and data[at + 4] >> 6 == 2, 0)
