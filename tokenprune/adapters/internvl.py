"""InternVL 3 and 3.5: InternViT, pixel shuffle, frames as images, Qwen2 or Qwen3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.images import Images
from tokenprune.adapters.llava import patches_of, size_of
from tokenprune.adapters.preparation import Numbered, fit
from tokenprune.pixels import Pixels


class InternVL(Images, model_type="internvl"):
    """`InternVLForConditionalGeneration` of any size."""

    cls = True
    tower_layers = ("encoder.layer", "attention")
    tower_halves = ("layernorm_after", "mlp")

    @classmethod
    def side(cls, config: PreTrainedConfig) -> int:
        return int(patches_of(config) * config.downsample_ratio)

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Numbered:
        size = size_of(config)
        return Numbered(fit(Pixels.of(settings, size), size), cls.side(config))

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        """Pixel shuffle lays blocks of patches side by side; a map has their mean."""
        return ops.pool2d(maps, "average")
