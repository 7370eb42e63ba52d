"""LLaVA-NeXT-Video: CLIP, pooling before the projector, no newline, Llama."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from tokenprune import ops
from tokenprune.adapters.llava import Llava


class LlavaNextVideo(Llava, model_type="llava_next_video"):
    """`LlavaNextVideoForConditionalGeneration` of any size."""

    cls = True

    @property
    def cells(self) -> int:
        return (self.patches // 2) ** 2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, "average")
