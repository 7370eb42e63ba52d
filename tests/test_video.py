"""Decoding: real files that PyAV writes here, good and bad."""

from __future__ import annotations

import multiprocessing
import os
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import bad_files, half, levels, write_noise, write_video
from PIL import Image

from tokenprune.errors import VideoError
from tokenprune.loading.video import frame_indices, read_clip, read_frames


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
    [
        ("a.mp4", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.ts", "mpeg2video"),
    ],
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
    """A quarter turn in the track's matrix, as phones write it: left of the stored picture is its
    bottom or top.
    """
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
    # 90 degrees clockwise
    data[matrix : matrix + 36] = b"".join([zero, one, zero, minus, zero, zero, zero, zero, unit])
    path.write_bytes(data)
    upright = read_frames(path, 4)
    assert upright.shape == (4, 64, 48, 3)
    assert upright[0, :12].float().mean() > 200 > 50 > upright[0, 20:].float().mean(), (
        "left has become top"
    )


def recounted(path: Path, before: int, after: int) -> Path:
    """AVI states the number of frames in its header, and nobody checks it."""
    data = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        start = data.index(chunk) + offset
        assert int.from_bytes(data[start : start + 4], "little") == before
        data[start : start + 4] = after.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def test_a_header_with_a_wrong_count(tmp_path: Path) -> None:
    assert levels(
        read_frames(recounted(write_video(tmp_path / "a.avi", frames=20), 20, 12), 3)
    ) == [0, 9, 19]


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    for kind, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(VideoError, match=message) as caught:
            read_frames(path, 8)
        said = str(caught.value)
        assert path.name in said and "\n" not in said, kind


def test_no_frames_asked_for(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="ask for at least 1"):
        read_frames(write_video(tmp_path / "a.mp4", frames=2), 0)


def tagged(path: Path, tag: bytes) -> Path:
    """A Matroska file whose DURATION tag, a clock of 18 characters, is another text."""
    data = path.read_bytes()
    at = data.index(b"00:00:0", data.index(b"DURATION"))
    path.write_bytes(data[:at] + tag.ljust(18) + data[at + 18 :])
    return path


@pytest.mark.parametrize(
    "tag", [b"N/A", b"2.000", b"00:00:02,000000000", b"00:10:00.000000000", b"1:2"]
)
def test_a_matroska_tag_that_is_not_the_duration(tmp_path: Path, tag: bytes) -> None:
    """Written by hand, in another language, in seconds, or copied from a longer film."""
    path = tagged(write_video(tmp_path / "a.mkv", frames=20), tag)
    assert levels(read_frames(path, 100)) == list(range(20))
    with pytest.raises(VideoError, match="truncated"):
        read_frames(half(path), 100)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv", "a.ts"])
def test_sound_that_is_longer_than_the_pictures(tmp_path: Path, name: str) -> None:
    codec = "flv" if name.endswith("flv") else "libx264"
    path = write_noise(tmp_path / name, range(0, 2000, 100), codec, sound=30)
    assert len(read_frames(path, 100)) == 20


@pytest.mark.parametrize("start", [0, 5_000, 1_000_000])
@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.flv"])
def test_a_clock_that_starts_late(tmp_path: Path, name: str, start: int) -> None:
    """Recordings of streams: whole files are read, and half of one is refused, wherever its clock
    starts.
    """
    codec = {"a.mkv": "mpeg4", "a.webm": "libvpx-vp9", "a.flv": "flv"}[name]
    path = write_noise(tmp_path / name, range(start, start + 10_000, 100), codec)
    clip = read_clip(path, 200)
    assert len(clip.frames) == 100
    assert clip.times is not None and clip.times == pytest.approx([i / 10 for i in range(100)])
    with pytest.raises(VideoError, match="truncated"):
        read_frames(half(path), 200)


@pytest.mark.parametrize("name", ["a.flv", "a.mkv", "a.mp4", "a.ts"])
def test_a_last_picture_that_stays(tmp_path: Path, name: str) -> None:
    """Slide shows and recordings of screens: FLV and MPEG-TS store no durations of pictures."""
    codec = "flv" if name == "a.flv" else "libx264"
    assert len(read_frames(write_noise(tmp_path / name, [0, 5000, 10_000], codec), 8)) == 3
    assert (
        len(read_frames(write_noise(tmp_path / f"uneven_{name}", [0, 100, 200, 30_000], codec), 8))
        == 4
    )


def test_a_header_that_counts_more_than_there_is(tmp_path: Path) -> None:
    """The file adds up, so its header is wrong; half of it does not."""
    path = recounted(write_video(tmp_path / "a.avi", frames=20), 20, 40)
    assert levels(read_frames(path, 3)) == [0, 9, 19]
    with pytest.raises(VideoError, match="truncated"):
        read_frames(half(path), 3)


def test_a_hole_at_the_end_is_no_whole_file(tmp_path: Path) -> None:
    """Downloads set a file's size at once: what has not come is zeros."""
    path = write_noise(tmp_path / "a.mkv", range(0, 20_000, 100), "mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(VideoError, match="truncated"):
        read_frames(path, 8)


def test_an_animated_webp_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    pictures = [Image.fromarray(np.full((48, 64, 3), 20 * i, np.uint8)) for i in range(10)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    try:
        said = str(tuple(read_frames(path, 8).shape))  # FFmpeg 9, of PyAV 19, can
    except VideoError as error:
        said = str(error)
    refused = (
        f"{path} is an animated WebP, which this FFmpeg cannot decode: convert it to MP4 or "
        "GIF first"
    )
    assert said in ("(8, 48, 64, 3)", refused)


def test_a_file_that_is_no_video_is_not_called_webp(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF" + bytes(60))
    with pytest.raises(VideoError, match="is no video"):
        read_frames(path, 8)


def test_tags_that_are_no_utf8(tmp_path: Path) -> None:
    path = tagged(write_video(tmp_path / "a.mkv", frames=4), "2 Größe".encode("latin-1"))
    assert len(read_frames(path, 4)) == 4


def test_frames_are_held_once(tmp_path: Path) -> None:
    """Besides what is returned there is one picture at a time, not a list of all of them."""
    path = write_video(tmp_path / "a.mp4", frames=30, size=(640, 480))
    read_frames(path, 1)
    tracemalloc.start()
    try:
        frames = read_frames(path, 30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frames.nbytes <= peak < 1.2 * frames.nbytes


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    """Music with a picture on it holds sound but no video; beside a video it is not taken."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        for codec, size in (("mjpeg", (32, 32)), ("mpeg4", (64, 48))):
            stream: Any = container.add_stream(codec, rate=10)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            if codec == "mjpeg" and not hasattr(stream, "disposition"):
                pytest.skip("PyAV 14.0 cannot mark a picture as attached")
            if codec == "mjpeg":
                stream.disposition = 0x400  # attached picture
        for stream in container.streams.video:
            for i in range(1 if stream.name == "mjpeg" else 6):
                picture = np.full((stream.height, stream.width, 3), 40 * i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    assert read_frames(path, 100).shape == (6, 48, 64, 3)


def test_pictures_of_another_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{w}.h264", 5, "libx264", (w, 48)) for w in (64, 96)]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_clip(path, 100)
    assert clip.frames.shape == (10, 48, 64, 3) and levels(clip.frames) == [*range(5), *range(5)]
    assert clip.times is None, "a raw stream does not say when a picture is shown"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_process_reads_after_its_parent(tmp_path: Path) -> None:
    """As a loader's workers do; threads of the parent's conversions are not there."""
    path = write_video(tmp_path / "a.mp4", size=(640, 480))
    read_frames(path, 2)
    child = multiprocessing.get_context("fork").Process(target=read_frames, args=(path, 2))
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(60)
    alive = child.is_alive()
    child.kill()
    assert not alive and child.exitcode == 0
