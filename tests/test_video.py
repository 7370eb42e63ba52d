"""Decoding: real files that PyAV writes here, good and bad."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tokenprune.errors import VideoError
from tokenprune.video import frame_indices, read_frames

STEP = 6  # grey level of frame i is i * STEP


def write_video(
    path: Path, frames: int = 40, codec: str = "mpeg4", size: tuple[int, int] = (64, 48), options: dict | None = None
) -> Path:
    """A video of 10 frames per second that gets brighter by STEP a frame."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        container.start_encoding()
        for i in range(frames):
            level = np.full((size[1], size[0], 3), i * STEP, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        container.mux(stream.encode())
    return path


def levels(frames: torch.Tensor) -> list[int]:
    """Which frames of `write_video` these are."""
    return (frames.float().mean((1, 2, 3)) / STEP).round().int().tolist()


def test_indices_are_an_integer_linspace() -> None:
    for count in range(1, 60):
        for frames in range(1, 40):
            chosen = frame_indices(count, frames)
            assert chosen == sorted(set(chosen)) and len(chosen) == min(count, frames)
            assert chosen[0] == 0
            if len(chosen) > 1:
                assert chosen[-1] == count - 1
    assert frame_indices(40, 8) == [0, 5, 11, 16, 22, 27, 33, 39]
    assert frame_indices(40, 1) == [0]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str) -> None:
    frames = read_frames(write_video(tmp_path / name, codec=codec), 8)
    assert frames.shape == (8, 48, 64, 3) and frames.dtype == torch.uint8
    assert levels(frames) == [0, 5, 11, 16, 22, 27, 33, 39]


def test_a_short_video_gives_every_frame_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", frames=3)
    assert levels(read_frames(path, 32)) == [0, 1, 2]
    assert levels(read_frames(path, 2)) == [0, 2]
    assert levels(read_frames(str(path), 1)) == [0]


def test_a_name_that_looks_like_a_protocol(tmp_path: Path) -> None:
    assert len(read_frames(write_video(tmp_path / "http:clip é.mp4"), 4)) == 4


def test_a_rotated_video_stands_upright(tmp_path: Path) -> None:
    """A quarter turn in the track's matrix, as phones write it: left of the stored picture is its bottom or top."""
    path = tmp_path / "turned.mp4"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :16] = 250
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # of version 0
    one, minus = (1 << 16).to_bytes(4, "big"), ((1 << 32) - (1 << 16)).to_bytes(4, "big")
    zero, unit = bytes(4), (1 << 30).to_bytes(4, "big")
    data[matrix : matrix + 36] = b"".join(
        [zero, one, zero, minus, zero, zero, zero, zero, unit]
    )  # 90 degrees clockwise
    path.write_bytes(data)
    upright = read_frames(path, 4)
    assert upright.shape == (4, 64, 48, 3)
    assert upright[0, :12].float().mean() > 200 > 50 > upright[0, 20:].float().mean(), "left has become top"


def test_a_header_with_a_wrong_count(tmp_path: Path) -> None:
    """AVI states the number of frames in its header, and nobody checks it."""
    path = write_video(tmp_path / "a.avi", frames=20)
    data = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        start = data.index(chunk) + offset
        assert int.from_bytes(data[start : start + 4], "little") == 20
        data[start : start + 4] = (12).to_bytes(4, "little")
    path.write_bytes(data)
    assert levels(read_frames(path, 3)) == [0, 9, 19]


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for i in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 1024 * i, Fraction(1, 8000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """What can be wrong with a file, and what is said about it."""
    whole = write_video(folder / "whole.mp4").read_bytes()
    fast = write_video(folder / "fast.mp4", options={"movflags": "faststart"}).read_bytes()
    matroska = write_video(folder / "whole.mkv").read_bytes()
    write_video(folder / "none.mp4", frames=0)
    write_audio(folder / "sound.mp4")
    (folder / "folder.mp4").mkdir()
    for name, data in {
        "text.mp4": b"no video at all\n" * 50,
        "notes.txt": b"no video at all\n" * 50,
        "empty.mp4": b"",
        "zeros.mkv": bytes(4096),
        "cut.mp4": whole[: len(whole) // 2],
        "cut_fast.mp4": fast[: len(fast) * 7 // 10],
        "cut.mkv": matroska[: len(matroska) // 2],
    }.items():
        (folder / name).write_bytes(data)
    return {
        "missing": (folder / "missing.mp4", "there is no video file"),
        "folder": (folder / "folder.mp4", "is a folder, not a video file"),
        "text": (folder / "text.mp4", "is no video, or a truncated or corrupt one"),
        "notes": (folder / "notes.txt", "is a text file, not a video|is no video"),
        "empty": (folder / "empty.mp4", "is no video"),
        "zeros": (folder / "zeros.mkv", "is no video"),
        "sound": (folder / "sound.mp4", "holds sound but no video"),
        "no frames": (folder / "none.mp4", "holds no frame|no video stream was found"),
        "truncated": (folder / "cut.mp4", "truncated or corrupt"),
        "truncated behind its header": (folder / "cut_fast.mp4", "truncated"),
        "truncated stream": (folder / "cut.mkv", r"is truncated: its pictures end after \d\.\d of 4\.0 seconds"),
    }


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    for kind, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(VideoError, match=message) as caught:
            read_frames(path, 8)
        said = str(caught.value)
        assert path.name in said and "\n" not in said, kind


def test_no_frames_asked_for(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="ask for at least 1"):
        read_frames(write_video(tmp_path / "a.mp4", frames=2), 0)
