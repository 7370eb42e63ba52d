"""The video that is measured on, and how long its decoding takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from tokenprune.bench.config import BenchConfig
from tokenprune.loading.video import read_frames
from tokenprune.tasks.export import write_video

MADE_UP = (360, 640)  # height and width of the clip that is made up
# its frames for each one asked for: most frames of a real video are decoded and left out
_DENSITY = 8

T = TypeVar("T")
Frames = UInt8[Tensor, "f h w 3"]


def size_of(config: BenchConfig) -> tuple[int, int]:
    """Height and width of the clip in pixels. Raises VideoError."""
    if not config.video:
        return MADE_UP
    _, height, width, _ = read_frames(Path(config.video).expanduser(), 1).shape
    return height, width


def decoded(config: BenchConfig) -> tuple[Frames, list[float]]:
    """The frames of the clip, and the milliseconds of decoding it. Raises VideoError."""
    with tempfile.TemporaryDirectory() as folder:
        if config.video:
            file = Path(config.video).expanduser()
        else:
            file = _clip(Path(folder), config.frames, config.seed)
        return timed(lambda: read_frames(file, config.frames), config.repeats)


def timed(what: Callable[[], T], repeats: int) -> tuple[T, list[float]]:
    """The result, and the milliseconds of each measured repeat; the work is the CPU's."""
    result, took = what(), list[float]()  # warm-up
    for _ in range(repeats):
        since = time.perf_counter()
        result = what()
        took.append(1e3 * (time.perf_counter() - since))
    return result, took


def _clip(folder: Path, frames: int, seed: int) -> Path:
    """A bright square that crosses a noisy background, as H.264."""
    height, width = MADE_UP
    generator = torch.Generator().manual_seed(seed)
    ground = torch.randint(
        96, 160, (height // 8, width // 8, 3), generator=generator, dtype=torch.uint8
    )
    ground = ground.repeat_interleave(8, 0).repeat_interleave(8, 1)
    count = _DENSITY * frames
    shown: Frames = ground.expand(count, -1, -1, -1).clone()
    for number in range(count):
        left = number * (width - 80) // max(1, count - 1)
        shown[number, 140:220, left : left + 80] = 250
    write_video(folder / "clip.mp4", shown)
    return folder / "clip.mp4"
