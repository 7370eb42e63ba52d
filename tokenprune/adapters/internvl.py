"""InternVL 3 and 3.5: InternViT, pixel shuffle, frames as images, Qwen2 or Qwen3."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from tokenprune import ops
from tokenprune.adapters.images import Images


class InternVL(Images, model_type="internvl"):
    """`InternVLForConditionalGeneration` of any size."""

    cls = True
    tower_layers = ("encoder.layer", "attention")

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
