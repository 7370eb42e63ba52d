"""LLaVA-OneVision: SigLIP, bilinear 2x2 pooling, a newline behind the last frame, Qwen2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.llava import Llava
from tokenprune.adapters.preparation import Frames, fit
from tokenprune.pixels import Pixels


class LlavaOnevision(Llava, model_type="llava_onevision"):
    """`LlavaOnevisionForConditionalGeneration` of any size."""

    separators = 1

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Frames:
        vision = config.vision_config
        pixels = fit(Pixels.of(settings, vision.image_size), vision.image_size)
        side = math.ceil(vision.image_size // vision.patch_size / 2)
        return Frames(pixels, side, behind=cls.separators)

    @property
    def cells(self) -> int:
        return math.ceil(self.patches / 2) ** 2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, "bilinear")
