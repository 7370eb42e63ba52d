"""LLaVA-NeXT-Video: CLIP, 2x2 pooling before the projector, no newline, Llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.llava import Llava
from tokenprune.adapters.preparation import Frames, fit
from tokenprune.pixels import Cropped


class LlavaNextVideo(Llava, model_type="llava_next_video"):
    """`LlavaNextVideoForConditionalGeneration` of any size."""

    cls = True

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Frames:
        vision = config.vision_config
        pixels = fit(Cropped.of(settings, vision.image_size), vision.image_size)
        return Frames(pixels, side=vision.image_size // vision.patch_size // 2)

    @property
    def cells(self) -> int:
        return (self.patches // 2) ** 2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, "average")
