"""Video files for tests, written by PyAV: grey pictures that can be told apart, and noise that
moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

STEP = 6  # grey level of frame i is i * STEP
MS = Fraction(1, 1000)
_NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def write_video(
    path: Path,
    frames: int = 40,
    codec: str = "mpeg4",
    size: tuple[int, int] = (64, 48),
    options: dict | None = None,
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


def write_noise(
    target: Any,
    times: Iterable[int],
    codec: str = "libx264",
    coding: dict[str, str] | None = None,
    *,
    rate: int = 10,
    sound: float = 0,
    **container_options: Any,
) -> Any:
    """Noise that moves by a pixel a frame, frames shown at `times`; `sound` are seconds of it.

    `times` are milliseconds, multiples of a frame's at `rate`; `coding` are the encoder's options.
    """
    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", **container_options) as container:
        stream: Any = container.add_stream(
            codec, rate=rate, options={"g": "10"} if coding is None else coding
        )
        stream.width, stream.height, stream.pix_fmt = (
            64,
            48,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        audio: Any = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.roll(_NOISE, number, axis=1), format="rgb24")
            frame.pts, frame.time_base = time, MS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            for number in range(int(sound * 8000 / 1024)):
                container.mux(audio.encode(_silence(number)))
            container.mux(audio.encode())
    return target


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(4):
            container.mux(stream.encode(_silence(number)))
        container.mux(stream.encode())
    return path


def _silence(number: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = 8000, 1024 * number, Fraction(1, 8000)
    return frame


def half(path: Path) -> Path:
    """The first half of a file's bytes."""
    cut = path.with_name(f"half_{path.name}")
    data = path.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    return cut


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
        "text": (folder / "text.mp4", "is not a video, or a truncated or corrupt one"),
        "notes": (folder / "notes.txt", "is a text file, not a video|is not a video"),
        "empty": (folder / "empty.mp4", "is not a video"),
        "zeros": (folder / "zeros.mkv", "is not a video"),
        "sound": (folder / "sound.mp4", "holds sound but no video"),
        "no frames": (folder / "none.mp4", "holds no frame|no video stream was found"),
        "truncated": (folder / "cut.mp4", "truncated or corrupt"),
        "truncated behind its header": (folder / "cut_fast.mp4", "truncated"),
        "truncated stream": (
            folder / "cut.mkv",
            r"is truncated: its pictures end after \d\.\d of 4\.0 seconds",
        ),
    }
