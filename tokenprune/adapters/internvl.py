"""InternVL 3 and 3.5: InternViT, pixel shuffle, frames as images, Qwen2 or Qwen3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.images import Images
from tokenprune.adapters.preparation import Numbered, fit
from tokenprune.pixels import Pixels


class InternVL(Images, model_type="internvl"):
    """`InternVLForConditionalGeneration` of any size."""

    cls = True
    tower_layers = ("encoder.layer", "attention")

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Numbered:
        vision = config.vision_config
        size, patch = vision.image_size[0], vision.patch_size[0]
        pixels = fit(Pixels.of(settings, size), size)
        return Numbered(pixels, side=int(size // patch * config.downsample_ratio))

    @property
    def patches(self) -> int:
        vision = self.model.config.vision_config
        return vision.image_size[0] // vision.patch_size[0]

    @property
    def cells(self) -> int:
        return int(self.patches * self.model.config.downsample_ratio) ** 2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        """Pixel shuffle lays blocks of patches side by side; a map has their mean."""
        return ops.pool2d(maps, "average")
