"""What all kinds read of a preprocessor configuration: how to resample, and how to normalise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from tokenprune.errors import LoadingError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)  # mean and spread of SigLIP and of Qwen3-VL
BILINEAR, BICUBIC = 2, 3  # PIL's numbers
_RESAMPLE = {0: "nearest-exact", BILINEAR: "bilinear", BICUBIC: "bicubic"}
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Levels:
    """From levels of uint8 to the numbers that a tower takes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale: float

    def __call__(self, images: UInt8[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
        """Rescales and normalises at once, in float32; torchvision's steps in its order."""
        levels = images.to(torch.float32)
        if (self.mean, self.std) == _PLAIN:
            return levels * self.rescale
        mean, std = (
            torch.tensor(part).view(-1, 1, 1) * (1.0 / self.rescale)
            for part in (self.mean, self.std)
        )
        return levels.sub_(mean).div_(std)


def levels_of(
    settings: Mapping[str, Any],
    mean: tuple[float, ...] = CLIP_MEAN,
    std: tuple[float, ...] = CLIP_STD,
) -> Levels:
    """Of a preprocessor configuration; `mean` and `std` where it says nothing."""
    if settings.get("do_normalize") is False:
        mean, std = _PLAIN
    else:
        mean = tuple(settings.get("image_mean") or mean)
        std = tuple(settings.get("image_std") or std)
    scaled = settings.get("do_rescale") is not False
    factor = float(settings.get("rescale_factor") or 1 / 255) if scaled else 1.0
    return Levels(mean, std, factor)


def mode_of(settings: Mapping[str, Any], default: int = BICUBIC) -> str:
    """How frames are resampled, in torch's words; `default` is PIL's number.

    LoadingError where frames are not resized, or by a rule that is not reproduced here.
    """
    if settings.get("do_resize") is False:
        raise LoadingError(
            f"frames prepared with size={settings.get('size')}, do_resize=False are not supported: "
            "a tower sees one size only"
        )
    number = settings.get("resample")
    number = default if number is None else number
    if number not in _RESAMPLE:
        raise LoadingError(
            f"resample={number} is not supported: 0 nearest, 2 bilinear or 3 bicubic"
        )
    return _RESAMPLE[number]


def resized(
    images: UInt8[Tensor, "f 3 h w"], height: int, width: int, mode: str
) -> UInt8[Tensor, "f 3 y x"]:
    """With antialiasing, in uint8: what torchvision's `resize` of such images does on a CPU."""
    if images.shape[-2:] == (height, width):
        return images
    smooth = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
    return interpolate(images.contiguous(), (height, width), mode=mode, **smooth)
