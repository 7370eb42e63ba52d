"""LLaVA-OneVision: SigLIP, bilinear 2x2 pooling, a newline behind the last frame, Qwen2."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.llava import Llava, patches_of


class LlavaOnevision(Llava, model_type="llava_onevision"):
    """`LlavaOnevisionForConditionalGeneration` of any size."""

    separators = 1
    pools_behind = True

    @classmethod
    def side(cls, config: PreTrainedConfig) -> int:
        return math.ceil(patches_of(config) / 2)

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, "bilinear")
