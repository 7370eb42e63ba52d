"""Pictures that no other is made from: told by the first bytes of their packets, and left out where
nobody asked for them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import write_noise

from tokenprune.loading.video import read_clip, seek
from tokenprune.loading.video.container import opened, scan
from tokenprune.loading.video.spare import Use, spare, use_test

EVEN = range(0, 20_000, 100)
AVCC = bytes([1, 0, 0, 0, 0xFF])
HVCC = bytes([1, *bytes(20), 0xFF])


def units(*heads: bytes) -> memoryview:
    """A packet of units of three bytes, each behind a length of four."""
    return memoryview(b"".join((3).to_bytes(4, "big") + head.ljust(3, b"\0") for head in heads))


def use(codec: str, extradata: bytes, packet: memoryview) -> Use:
    test = use_test(codec, extradata)
    assert test is not None
    return test(packet)


def test_h264_says_so_of_each_slice() -> None:
    slice_of_none, reference, note = bytes([0x01]), bytes([0x41]), bytes([0x06])
    assert use("h264", AVCC, units(note, slice_of_none, slice_of_none)) == Use(True, 0)
    assert not use("h264", AVCC, units(slice_of_none, reference)).leaf
    assert not use("h264", AVCC, units(note)).leaf, "no picture at all"


def test_hevc_says_so_by_the_kind_of_slice_and_within_a_layer() -> None:
    def head(kind: int, layer: int) -> bytes:
        return bytes([kind << 1, layer + 1])

    assert use("hevc", HVCC, units(head(39, 0), head(0, 0))) == Use(True, 1)
    assert use("hevc", HVCC, units(head(8, 2))) == Use(True, 3)
    assert not use("hevc", HVCC, units(head(1, 0))).leaf
    assert not use("hevc", HVCC, units(head(20, 0))).leaf, "a key picture is where one begins"
    assert not use("hevc", HVCC, units(head(39, 0))).leaf


def test_leaves_of_a_lower_layer_are_needed_by_higher_ones() -> None:
    assert spare([Use(True, 0), Use(False, 0), Use(True, 1), Use(True, 0)]) == [
        False,
        False,
        True,
        False,
    ]
    assert spare([Use(True, 0), Use(False, 0)]) == [True, False]
    assert spare([]) == []


def test_codecs_that_do_not_say_have_none() -> None:
    assert use_test("vp9", None) is None
    assert use_test("h264", b"\0\0\0\1\x67") is None, "start codes"
    assert use_test("h264", None) is None


CODINGS = {
    "a.mp4": ("libx264", {"g": "50", "bf": "3"}),
    "pyramid.mkv": ("libx264", {"g": "50", "bf": "7", "x264-params": "b-adapt=0"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:keyint=50:bframes=4"}),
    "layers.mp4": ("libx265", {"x265-params": "log-level=none:keyint=50:temporal-layers=3"}),
    "mpeg4.mp4": ("mpeg4", {"g": "50", "bf": "2"}),
}


@pytest.mark.parametrize("name", CODINGS)
def test_what_is_called_spare_can_be_left_out(tmp_path: Path, name: str) -> None:
    """The other pictures, to the bit: FFmpeg decodes the file with and without."""
    codec, options = CODINGS[name]
    path = write_noise(tmp_path / name, EVEN, codec, options)
    with opened(path) as (container, stream):
        packets = scan(container, stream).packets
    left_out = {packet.pts for packet in packets if packet.spare}
    assert 0.2 * len(packets) < len(left_out) < 0.9 * len(packets)
    whole, rest = decoded(path, set()), decoded(path, left_out)
    assert set(rest) == set(whole) - left_out
    assert all(np.array_equal(whole[time], picture) for time, picture in rest.items())


def decoded(path: Path, without: set[int | None]) -> dict[int | None, np.ndarray]:
    """Pictures by their times, some packets never handed to the decoder."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        given = [packet for packet in container.demux(stream) if packet.pts not in without]
        return {frame.pts: frame.to_ndarray() for one in given for frame in one.decode()}


def test_only_what_is_asked_for_or_needed_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_noise(tmp_path / "a.mp4", EVEN, "libx264", {"g": "50", "bf": "3"})
    with opened(path) as (container, stream):
        index = scan(container, stream)
    parts: list[Any] = []
    before = seek._decoded
    monkeypatch.setattr(seek, "_decoded", lambda *args: parts.append(args[1]) or before(*args))
    clip = read_clip(path, 5)
    taken = [packet for part in parts for packet in part.values()]
    assert index.shown is not None
    asked = Counter(index.shown[number] for number in clip.indices)
    assert sum(packet.spare for packet in taken) <= len(clip.indices)
    assert all(asked[packet.pts or 0] == 1 for packet in taken if packet.spare)
    assert len(taken) < 0.75 * sum(max(part) - min(part) + 1 for part in parts)


def test_an_index_that_leads_astray(tmp_path: Path) -> None:
    """Matroska's cues that point at other clusters: FFmpeg goes there, and it is noticed."""
    path = write_noise(tmp_path / "a.mkv", EVEN, "libx264", {"g": "20"})
    right = read_clip(path, 4)
    data = bytearray(path.read_bytes())
    cues = data.rindex(b"\x1c\x53\xbb\x6b")
    at, places = cues, []
    while (at := data.find(b"\xf1", at + 1)) >= 0:  # CueClusterPosition, behind its length
        width = data[at + 1] & 0x7F
        if data[at + 1] & 0x80 and 1 <= width <= 4:
            places.append((at + 2, width))
    assert len(places) > 3
    last, size = places[-1]
    far = bytes(data[last : last + size])
    for place, width in places:
        data[place : place + width] = far[-width:].rjust(width, b"\0")
    path.write_bytes(data)
    wrong = read_clip(path, 4)
    assert wrong.indices == right.indices and wrong.times == right.times
    assert wrong.frames.equal(right.frames)
