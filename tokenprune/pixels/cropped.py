"""The shortest edge to a length, then the centre: LLaVA-NeXT-Video, Video-LLaVA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from tokenprune.errors import LoadingError
from tokenprune.pixels.settings import Levels, levels_of, mode_of, resized


@dataclass(frozen=True)
class Cropped:
    """`edge` is what the shorter side becomes; of that the central `height` x `width` pixels are
    seen.
    """

    edge: int
    height: int
    width: int
    levels: Levels
    mode: str = "bicubic"

    @classmethod
    def of(cls, settings: Mapping[str, Any], side: int = 224) -> Cropped:
        """From the contents of a (video) preprocessor configuration; `side` where it says nothing.

        LoadingError for what is not reproduced here.
        """
        size = settings.get("size") or {"shortest_edge": side}
        crop = settings.get("crop_size") or {"height": side, "width": side}
        edge = size.get("shortest_edge")
        cropped = settings.get("do_center_crop") is not False
        if edge is None or "longest_edge" in size or not cropped:
            raise LoadingError(
                f"frames prepared with size={size} and "
                f"do_center_crop={settings.get('do_center_crop')} are not supported: only the "
                "shortest edge and the centre"
            )
        if max(crop["height"], crop["width"]) > edge:
            raise LoadingError(
                f"the centre of {crop['height']}x{crop['width']} pixels does not lie inside frames "
                f"whose shorter edge is {edge}"
            )
        return cls(edge, crop["height"], crop["width"], levels_of(settings), mode_of(settings))

    def part(self, picture: UInt8[Tensor, "_ _ 3"]) -> UInt8[Tensor, "_ _ 3"]:
        """The part of a picture that becomes tokens, at its own resolution."""
        height, width, _ = picture.shape
        scale = min(height, width) / self.edge
        tall, wide = round(self.height * scale), round(self.width * scale)
        top, left = (height - tall) // 2, (width - wide) // 2
        return picture[top : top + tall, left : left + wide]

    def size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that a video's frames get."""
        return self.height, self.width

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3 y x"]:
        images = frames.permute(0, 3, 1, 2)
        height, width = images.shape[-2:]
        short, long = min(height, width), max(height, width)
        length = int(self.edge * long / short)
        wide = (self.edge, length) if height <= width else (length, self.edge)
        images = resized(images, *wide, self.mode)
        top = int((wide[0] - self.height) / 2.0)
        left = int((wide[1] - self.width) / 2.0)
        return self.levels(images[..., top : top + self.height, left : left + self.width])
