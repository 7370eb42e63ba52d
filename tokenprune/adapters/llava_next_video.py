"""LLaVA-NeXT-Video: CLIP, pooling before the projector, no newline, Llama."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.llava import Llava, patches_of
from tokenprune.pixels import Cropped


class LlavaNextVideo(Llava, model_type="llava_next_video"):
    """`LlavaNextVideoForConditionalGeneration` of any size."""

    cls = True
    prepares = Cropped

    @classmethod
    def side(cls, config: PreTrainedConfig) -> int:
        return patches_of(config) // 2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, "average")
