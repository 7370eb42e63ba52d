"""Frames of any size as patches: Qwen2-VL and Qwen2.5-VL (a budget of pixels for each frame),
Qwen3-VL (one for the whole video).

A cell is `merge` x `merge` patches; a patch is `side` x `side` pixels of `pair` frames, one behind
the other. Patches come cell by cell, so that the tower merges neighbours in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tokenprune.errors import LoadingError, PromptError
from tokenprune.pixels.settings import CLIP_MEAN, CLIP_STD, Levels, levels_of, mode_of, resized

_LONGEST = 200  # times the shorter side
_SPARE = 1.05  # of the least pixels: what a frame may have where the cap leaves it less
_CONTEXT = 0.9  # of a context that Qwen2's cap gives to videos


@dataclass(frozen=True)
class Patches:
    """Frames resized to whole cells within a budget of pixels, and cut into patches.

    Args:
        least: pixels, below which frames are enlarged
        most: pixels, above which they are made smaller
        whole: whether these are of the whole video (Qwen3-VL), else of each frame
        cap: tokens that a video (a frame, where `whole`) is limited to on top; None: not at all,
            `cap_pixels_per_frame` of the configuration
    """

    least: int
    most: int
    whole: bool
    levels: Levels
    side: int = 14
    merge: int = 2
    pair: int = 2
    mode: str = "bicubic"
    cap: int | None = None

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        whole: bool = False,
        side: int = 14,
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
    ) -> Patches:
        """From the contents of a (video) preprocessor configuration; the other arguments hold where
        it says nothing.

        LoadingError for what is not reproduced here.
        """
        side = settings.get("patch_size") or side
        merge = settings.get("merge_size") or 2
        area = (side * merge) ** 2
        size = settings.get("size") or {"shortest_edge": 128 * area, "longest_edge": 768 * area}
        least = settings.get("min_pixels") or size.get("shortest_edge")
        most = settings.get("max_pixels") or size.get("longest_edge")
        if least is None or most is None:
            raise LoadingError(
                f"frames prepared with size={size} are not supported: only a budget of pixels, "
                "from shortest_edge to longest_edge"
            )
        tokens = settings.get("max_video_tokens") or (768 if whole else 128_000)
        return cls(
            least=least,
            most=most,
            whole=whole,
            levels=levels_of(settings, mean, std),
            side=side,
            merge=merge,
            pair=settings.get("temporal_patch_size") or 2,
            mode=mode_of(settings),
            cap=tokens if settings.get("cap_pixels_per_frame") else None,
        )

    @property
    def cell(self) -> int:
        """Pixels along a side of what becomes one visual token."""
        return self.side * self.merge

    def size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that a video's frames get.

        A single frame counts twice where the budget is the whole video's, since it is seen twice:
        transformers takes none there. PromptError for frames that are too narrow a strip.
        """
        if self.whole:
            frames = max(frames, self.pair)
            if min(height, width) < self.cell:
                scale = max(self.cell / height, self.cell / width)
                height, width = int(height * scale), int(width * scale)
        if max(height, width) > _LONGEST * min(height, width):
            raise PromptError(
                f"frames of {height}x{width} pixels are more than {_LONGEST} times as long as they "
                "are wide, which the model does not take"
            )
        most = self._most(frames)
        seen = round(frames / self.pair) * self.pair if self.whole else 1
        area = (frames if self.whole else 1) * height * width
        tall, wide = (round(length / self.cell) * self.cell for length in (height, width))
        if seen * tall * wide > most:
            less = math.sqrt(area / most)
            tall, wide = (self._down(length / less) for length in (height, width))
        elif seen * tall * wide < self.least:
            more = math.sqrt(self.least / area)
            tall, wide = (self._up(length * more) for length in (height, width))
        return tall, wide

    def _down(self, length: float) -> int:
        return max(self.cell, math.floor(length / self.cell) * self.cell)

    def _up(self, length: float) -> int:
        return math.ceil(length / self.cell) * self.cell

    def _most(self, frames: int) -> int:
        """Pixels of a frame, or of the whole video, at most."""
        if self.cap is None:
            return self.most
        floor = int(self.least * _SPARE)
        tokens = self.cap * self.cell * self.cell
        if self.whole:
            return max(min(tokens, self.most // frames), floor) * frames
        share = int(tokens * _CONTEXT) * self.pair // frames
        return max(min(self.most, share), floor)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Pairs of frames, and patches along the height and the width of each."""
        tall, wide = self.size(frames, height, width)
        return math.ceil(frames / self.pair), tall // self.side, wide // self.side

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "n p"]:
        """Patches of the video, cell by cell; the last frame is repeated where pairs need it."""
        count, *shape = frames.shape[:3]
        tall, wide = self.size(count, *shape)
        images = self.levels(resized(frames.permute(0, 3, 1, 2), tall, wide, self.mode))
        if missing := -count % self.pair:
            images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        pairs = images.unflatten(0, (-1, self.pair))
        cells = pairs.unflatten(4, (-1, self.merge, self.side))
        cells = cells.unflatten(3, (-1, self.merge, self.side))
        # [t 2 3 h m p w m p]: cell, place in the cell, channel, frame of the pair, pixel
        ordered = cells.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        return ordered.flatten(5).flatten(0, 4)
