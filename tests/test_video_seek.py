"""Seeking to chosen frames: the same pixels and times as decoding everything, with less of it
decoded.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import half, levels, write_noise

import tokenprune.loading.video as video
from tokenprune.errors import VideoError
from tokenprune.loading.video import read_clip, read_frames, seek
from tokenprune.loading.video.container import opened, scan
from tokenprune.loading.video.seek import Stretch, plan

EVEN = range(0, 30_000, 100)
UNEVEN = [*range(0, 10_000, 100), *range(10_000, 150_000, 700)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each stretch decoded."""
    found: list[int] = []
    before = seek._decoded

    def counting(*args: Any) -> Any:
        found.append(0)
        for frame in before(*args):
            found[-1] += 1
            yield frame

    monkeypatch.setattr(seek, "_decoded", counting)
    return found


def agrees(path: Path, frames: int, sampling: str = "index") -> None:
    with opened(path) as (container, stream):
        index = scan(container, stream)
    whole, quick = (
        video._sequential(path, index, video.Spread(frames, sampling)),
        read_clip(path, frames, sampling),
    )
    assert torch.equal(quick.frames, whole.frames)
    assert quick[1:] == whole[1:]


FILES = {
    "b_frames.mp4": ("libx264", EVEN, {"g": "20"}, {}),
    "b_frames.mkv": ("libx264", EVEN, {"g": "20"}, {}),
    "fragments.mp4": (
        "libx264",
        EVEN,
        {"g": "20"},
        {"options": {"movflags": "frag_keyframe+empty_moov"}},
    ),
    "front.mp4": ("libx264", EVEN, {"g": "20"}, {"options": {"movflags": "faststart"}}),
    "uneven.mp4": ("libx264", UNEVEN, {"g": "20"}, {}),
    "uneven.mkv": ("libx264", UNEVEN, {"g": "20"}, {}),
    "late.mp4": ("libx264", range(90_000, 120_000, 100), {"g": "20"}, {}),
    "negative.mp4": ("libx264", range(-400, 29_600, 100), {"g": "20"}, {}),
    "hevc.mp4": (
        "libx265",
        range(0, 10_000, 100),
        {"x265-params": "log-level=none:keyint=20:open-gop=1"},
        {},
    ),
    "odd.mp4": ("libx264", EVEN, {"g": "37", "bf": "7", "x264-params": "b-adapt=0"}, {}),
    "cuts.mkv": ("libx264", UNEVEN, {"g": "23", "bf": "2", "x264-params": "b-pyramid=0"}, {}),
    "slices.mp4": ("libx264", EVEN, {"g": "20", "x264-params": "slices=4:weightp=2"}, {}),
    "layers.mp4": (
        "libx265",
        range(0, 10_000, 100),
        {"x265-params": "log-level=none:keyint=25:bframes=7:temporal-layers=3"},
        {},
    ),
    "vp9.webm": ("libvpx-vp9", EVEN, {"g": "20"}, {}),
    "mpeg4.mp4": ("mpeg4", EVEN, {"g": "20", "bf": "2"}, {}),
    "intra.mov": ("mjpeg", EVEN, {}, {}),
}


@pytest.mark.parametrize("name", FILES)
def test_seeking_gives_what_decoding_everything_gives(
    tmp_path: Path, name: str, decoded: list[int]
) -> None:
    codec, times, options, container = FILES[name]
    path = write_noise(tmp_path / name, times, codec, options, **container)
    for frames in (1, 2, 5):
        decoded.clear()
        agrees(path, frames)
        assert 0 < sum(decoded) < 0.7 * len(times), "what lies between is not decoded"
    agrees(path, 3, "time")
    agrees(path, 100)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        (
            "open.mkv",
            "libx264",
            {"g": "20", "x264-params": "open-gop=1"},
        ),  # pictures that reach back behind a key one
        ("refresh.mp4", "libx264", {"g": "20", "x264-params": "intra-refresh=1"}),
        (
            "hidden.webm",
            "libvpx",
            {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16"},
        ),  # packets without a picture
        ("a.ts", "libx264", {"g": "20"}),
        ("a.avi", "libx264", {"g": "20"}),
        ("a.flv", "libx264", {"g": "20"}),
        ("a.mpg", "mpeg2video", {"g": "20"}),
    ],
)
def test_what_cannot_seek_exactly_decodes_everything(
    tmp_path: Path, name: str, codec: str, options: dict
) -> None:
    path = write_noise(tmp_path / name, range(0, 12_000, 40), codec, options, rate=25)
    for frames in (2, 7):
        agrees(path, frames)


def test_an_edit_list_hides_what_it_cuts_off(tmp_path: Path, decoded: list[int]) -> None:
    """As editors of phones and `-ss` write it: decoding begins at a key picture, showing later."""
    path = write_noise(tmp_path / "a.mp4", EVEN, "libx264", {"g": "20"})
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12

    def number(offset: int, change: int) -> None:
        before = int.from_bytes(data[offset : offset + 4], "big")
        data[offset : offset + 4] = (before + change).to_bytes(4, "big")

    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base
    assert tick is not None
    number(at, -4500)  # milliseconds
    number(at + 4, int(4.5 / tick))
    path.write_bytes(data)
    agrees(path, 2)
    assert sum(decoded) < 100
    agrees(path, 500)
    assert len(read_frames(path, 500)) == 255


def test_matroska_without_an_index(tmp_path: Path, decoded: list[int]) -> None:
    """A live recording: no cues, no duration, lengths left open.

    What is there is read, as FFmpeg does.
    """

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stream = Stream()
    stream.seek = None  # pyright: ignore[reportAttributeAccessIssue]  PyAV asks for the method
    path = tmp_path / "live.mkv"
    path.write_bytes(write_noise(stream, EVEN, format="matroska").getvalue())
    agrees(path, 4)
    assert sum(decoded) < 150
    assert 100 < len(read_frames(half(path), 500)) < 200


def test_a_damaged_end_is_found_without_decoding_everything(tmp_path: Path) -> None:
    """The index is in front and whole; what it points at is not there."""
    path = write_noise(
        tmp_path / "a.mp4", EVEN, "libx264", {"g": "20"}, options={"movflags": "faststart"}
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    for frames in (1, 2, 8):
        with pytest.raises(VideoError, match="truncated"):
            read_frames(path, frames)
    path.write_bytes(data[: len(data) * 3 // 4] + bytes(len(data) // 4 + 1))
    for frames in (1, 2, 8):
        with pytest.raises(VideoError):
            read_frames(path, frames)


def test_the_first_of_two_video_streams(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, side in zip(streams, (64, 32), strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for number in range(40):
            for stream in streams:
                picture = np.full((stream.height, stream.height, 3), 6 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    frames = read_frames(path, 8)
    assert frames.shape == (8, 64, 64, 3) and levels(frames) == [0, 5, 11, 16, 22, 27, 33, 39]


def test_a_plan_decodes_no_more_than_it_must() -> None:
    entries = [number % 10 == 0 for number in range(100)]
    times = list(range(100))
    assert plan(times, entries, [0, 99]) == [Stretch(0, 0), Stretch(90, 99)]
    assert plan(times, entries, [0, 3, 12, 55]) == [Stretch(0, 3), Stretch(10, 12), Stretch(50, 55)]
    assert plan(times, entries, [9, 10]) == [Stretch(0, 10)]
    assert plan(times, [False] * 100, [0, 99]) == [Stretch(0, 99)]
    leading = [0, 1, 5, 3, 4, 6]  # the entry at 2 is shown after the pictures at 3 and 4
    assert plan(leading, [True, False, True, False, False, False], [4]) == [Stretch(0, 4)]
    assert plan(leading, [True, False, True, False, False, False], [5]) == [Stretch(2, 5)]
