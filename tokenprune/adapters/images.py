"""What families share whose frames come as images: all images of a sample are one video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import compat
from tokenprune.adapters.base import Given
from tokenprune.adapters.llava import Llava
from tokenprune.adapters.rows import one_each, sources
from tokenprune.tokens import Video


class Images(Llava):
    """A LLaVA-like family without videos of its own: `pixel_values` `[frames 3 h w]`."""

    modality = "image"

    @classmethod
    def placeholder_of(cls, config: PreTrainedConfig) -> int:
        return config.image_token_id

    def lengths(self, given: Given) -> list[int] | None:
        """Images do not say which sample they belong to."""
        return None

    def brings(self, given: Given) -> bool:
        pixels = given.get("pixel_values")
        return pixels is not None or compat.encoded_media(given, "image") is not None

    def videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> list[list[Video]]:
        return one_each(counts, self.cells, self.video)

    def see(
        self, input_ids: Int[Tensor, "b s"], given: Given, videos: Sequence[Sequence[Video]]
    ) -> dict[str, Any]:
        pixels: Float[Tensor, "i c h w"] = given["pixel_values"]
        numbers = sources(videos, len(pixels) * self.cells)
        lengths: dict[int, int] = {}
        every = (video for own in videos for video in own)
        for number, video in zip(numbers, every, strict=True):
            lengths[number] = video.frames
        parts = pixels.to(self.device, self.model.dtype).split([*lengths.values()])
        seen = torch.cat([parts[number] for number in numbers])
        return {"inputs_embeds": self.embed(input_ids.to(self.device), seen)}
