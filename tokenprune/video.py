"""Frames of a video file, by PyAV: any container and codec that FFmpeg reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from tokenprune.errors import VideoError


def frame_indices(count: int, frames: int) -> list[int]:
    """`frames` indices spread evenly from the first to the last of `count`, truncated; all of them if there are fewer.

    The rule of the field's evaluation codes, `linspace(0, count - 1, frames)` as integers.
    """
    if count <= frames:
        return list(range(count))
    return [i * (count - 1) // max(1, frames - 1) for i in range(frames)]


def read_frames(path: str | Path, frames: int) -> UInt8[Tensor, "f h w 3"]:
    """`frames` RGB frames spread evenly over a video; every frame once if the video is shorter, never a repeated one.

    One sequential pass that holds the chosen frames only; a second one where the container states no frame count or a
    wrong one. A rotation by quarter turns in the metadata is applied. Raises VideoError.
    """
    path = Path(path)
    if frames < 1:
        raise VideoError(f"{frames} frames of {path} make no video: ask for at least 1")
    count = _stated_count(path)
    chosen, decoded = _collect(path, frame_indices(count, frames))
    if decoded != count:  # a wrong header
        chosen, _ = _collect(path, frame_indices(decoded, frames))
    return torch.from_numpy(np.stack(chosen))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; whatever FFmpeg objects to within the block becomes a VideoError."""
    if path.is_dir():
        raise VideoError(f"{path} is a folder, not a video file")
    if not path.exists():
        raise VideoError(f"there is no video file {path}")
    try:
        # "file:" keeps a colon in a name from being read as a protocol
        with av.open(f"file:{path}", metadata_errors="ignore") as container:
            pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if container.format.name == "tty":
                raise VideoError(f"{path} is a text file, not a video")
            if not pictures:
                raise VideoError(
                    f"{path} holds sound but no video"
                    if container.streams.audio
                    else f"{path} is truncated or corrupt: no video stream was found in it"
                )
            yield container, pictures[0]
    except FFmpegError as error:
        raise VideoError(f"{path} is no video, or a truncated or corrupt one (FFmpeg: {error.strerror})") from None


def _stated_count(path: Path) -> int:
    """The number of frames by the header, or else the number of packets, which are read but not decoded."""
    with _opened(path) as (container, stream):
        return stream.frames or sum(1 for packet in container.demux(stream) if packet.size)


def _collect(path: Path, wanted: list[int]) -> tuple[list[UInt8[np.ndarray, "h w 3"]], int]:
    """The frames at `wanted`, as far as there are, and how many frames there are."""
    chosen, keep = [], set(wanted)
    count, last = 0, None
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        for last in container.decode(stream):
            if count in keep:
                chosen.append(_pixels(last, chosen))
            count += 1
        if last is None:
            raise VideoError(f"{path} holds no frame: its video stream is empty")
        if count != stream.frames:
            _check_whole(path, container, stream, last)
    return chosen, count


def _pixels(frame: VideoFrame, before: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, upright; a stream that changes its size halfway keeps the size it began with."""
    turns = round(frame.rotation / 90) % 4
    height, width = before[0].shape[:2] if before else (None, None)
    if turns % 2:
        height, width = width, height
    return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), turns)


def _check_whole(path: Path, container: InputContainer, stream: VideoStream, last: VideoFrame) -> None:
    """Raises where the frames end well before the stated duration. MPEG-TS and the like state none."""
    stated = _duration(container, stream)
    if stated is None or last.time is None:
        return
    shown = float(last.duration * last.time_base) if last.duration and last.time_base else 0.0
    end = last.time + shown
    if end < stated - max(0.5, 0.05 * stated):
        raise VideoError(f"{path} is truncated: its pictures end after {end:.1f} of {stated:.1f} seconds")


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds the container states for the video stream."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if "DURATION" in stream.metadata:  # Matroska: "00:01:02.345000000"
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if len(container.streams) > 1 or container.duration is None:
        return None  # the longest stream's, which need not be this one
    return container.duration / av.time_base
