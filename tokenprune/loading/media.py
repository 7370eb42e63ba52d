"""What a prompt shows: videos, and images beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import UInt8
from torch import Tensor


class Medium(NamedTuple):
    """A video of a prompt."""

    frames: UInt8[Tensor, "f h w 3"]
    times: Sequence[float] | None = None  # seconds at which they appear; None: one a second


# of one sample: a video, or several videos [f h w 3] and images [h w 3] in order
Media = Tensor | Medium | Sequence[Tensor | Medium]


def media_of(given: Media) -> list[Tensor | Medium]:
    """The videos and images of a sample, in order."""
    return [given] if isinstance(given, Tensor | Medium) else [*given]
