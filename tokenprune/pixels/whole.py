"""Every frame to one height and width: LLaVA-OneVision, InternVL, Gemma 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from tokenprune.errors import LoadingError
from tokenprune.pixels.settings import (
    BICUBIC,
    CLIP_MEAN,
    CLIP_STD,
    Levels,
    levels_of,
    mode_of,
    resized,
)


@dataclass(frozen=True)
class Pixels:
    """How frames become the tower's input; the defaults are those of
    `LlavaOnevisionVideoProcessor`.
    """

    height: int = 384
    width: int = 384
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    rescale: float = 1 / 255
    mode: str = "bicubic"

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        side: int = 384,
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
        resample: int = BICUBIC,
    ) -> Pixels:
        """From the contents of a (video) preprocessor configuration; the other arguments hold where
        it says nothing.

        LoadingError for what is not reproduced here.
        """
        size = settings.get("size") or {"height": side, "width": side}
        if (
            not {"height", "width"} <= set(size)
            or settings.get("do_center_crop")
            or settings.get("do_resize") is False
        ):
            raise LoadingError(
                f"frames prepared with size={size}, do_resize={settings.get('do_resize')} and "
                f"do_center_crop={settings.get('do_center_crop')} are not supported: only resizing "
                "to height and width"
            )
        mode = mode_of(settings, resample)
        levels = levels_of(settings, mean, std)
        return cls(
            height=size["height"],
            width=size["width"],
            mean=levels.mean,
            std=levels.std,
            rescale=levels.rescale,
            mode=mode,
        )

    def size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that a video's frames get."""
        return self.height, self.width

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3 y x"]:
        """Resizes with antialiasing in uint8, then rescales and normalises in float32."""
        images = resized(frames.permute(0, 3, 1, 2), self.height, self.width, self.mode)
        return Levels(self.mean, self.std, self.rescale)(images)
