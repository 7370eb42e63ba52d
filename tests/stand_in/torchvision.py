"""As much of torchvision as transformers' video processors use, where torchvision is not installed.

The real one is built for one build of torch each, which an environment with another breaks. What
resizes is torch's own function, as there.
"""

from __future__ import annotations

import sys
from enum import Enum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

__version__ = "0.28.0"


class InterpolationMode(Enum):
    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def resize(
    image: Tensor, size: Any, interpolation: InterpolationMode, antialias: bool = True
) -> Tensor:
    """Images as uint8 or float [... 3 h w]; bytes are resized as bytes."""
    flat = image.reshape(-1, *image.shape[-3:])
    mode = interpolation.value
    if image.dtype == torch.uint8 and mode == "bicubic":  # torch clamps and rounds bilinear alone
        made = interpolate(flat.float(), [*size], mode=mode, antialias=antialias)
        made = made.clamp(0, 255).round().to(torch.uint8)
    else:
        made = interpolate(flat, [*size], mode=mode, antialias=antialias)
    return made.reshape(*image.shape[:-2], *made.shape[-2:])


def normalize(image: Tensor, mean: Any, std: Any, inplace: bool = False) -> Tensor:
    mean, std = (torch.as_tensor(one).to(image).view(-1, 1, 1) for one in (mean, std))
    return (image - mean) / std


def pad(image: Tensor, padding: Any, fill: int = 0) -> Tensor:
    """`padding` is left, top, right, bottom."""
    left, top, right, bottom = padding
    return torch.nn.functional.pad(image, [left, right, top, bottom], value=fill)


def grayscale_to_rgb(image: Tensor) -> Tensor:
    return image if image.shape[-3] == 3 else image.expand(*image.shape[:-3], 3, -1, -1)


def pil_to_tensor(picture: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(f"torchvision.{name}")
    vars(made).update(content)
    sys.modules[made.__name__] = made
    return made


_functions = {
    one.__name__: one
    for one in (InterpolationMode, resize, normalize, pad, grayscale_to_rgb, pil_to_tensor)
}
io = _module("io")
transforms = _module(
    "transforms",
    InterpolationMode=InterpolationMode,
    functional=_module("transforms.functional", **_functions),
    v2=_module("transforms.v2", functional=_module("transforms.v2.functional", **_functions)),
)
