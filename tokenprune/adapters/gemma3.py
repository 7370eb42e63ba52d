"""Gemma 3: frames as images whose rows all see one another, and layers that look back a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.masking_utils import create_sliding_window_causal_mask
from transformers.models.gemma3.modeling_gemma3 import (
    create_masks_for_vision_model,
    get_block_sequence_ids_for_mask,
)

from tokenprune.adapters.base import Given
from tokenprune.adapters.images import Images
from tokenprune.adapters.llava import size_of
from tokenprune.adapters.preparation import Announced, fit
from tokenprune.pixels import BILINEAR, HALF, Pixels


class Gemma3(Images, model_type="gemma3"):
    """`Gemma3ForConditionalGeneration` of any size."""

    refuses = ("a stage that reads a sliding layer: the nearest full ones are named",)
    reads = "image_processor"

    @classmethod
    def side(cls, config: PreTrainedConfig) -> int:
        return math.isqrt(config.mm_tokens_per_image)

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Announced:
        size = size_of(config)
        pixels = Pixels.of(settings, size, mean=HALF, std=HALF, resample=BILINEAR)
        return Announced(fit(pixels, size), cls.side(config))

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        patches, side = math.isqrt(maps.shape[1]), self.side(self.model.config)
        grid = maps.transpose(1, 2).unflatten(2, (patches, patches))
        return functional.avg_pool2d(grid, patches // side).flatten(2).transpose(1, 2)

    def window(self, layer: int) -> int | None:
        sliding = self.text_config.layer_types[layer] == "sliding_attention"
        return self.text_config.sliding_window if sliding else None

    def rotation(
        self, layer: int, hidden: Float[Tensor, "b s d"], positions: Int[Tensor, "b s"]
    ) -> tuple[Tensor, ...]:
        rotate = self.language_model.get_submodule("rotary_emb")
        return rotate(hidden, positions.to(hidden.device), self.text_config.layer_types[layer])

    def blocks(self, given: Given) -> Int[Tensor, "b s"] | None:
        """Numbered before anything is left out; none without token types, as the stock model."""
        types = given.get("token_type_ids")
        return None if types is None else get_block_sequence_ids_for_mask(types, types.device)

    def prompt_mask(
        self,
        embeds: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"] | Int[Tensor, "b s"] | None,
        blocks: Int[Tensor, "b s"] | None,
    ) -> Any:
        """A mask for each kind of layer; the model makes both itself where no rows are pictures."""
        if blocks is None:
            return mask
        return create_masks_for_vision_model(
            self.text_config, embeds, mask, None, None, blocks.to(embeds.device)
        )

    def layer_mask(
        self,
        layer: int,
        hidden: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b t"] | None,
        cache: Cache | None,
        blocks: Int[Tensor, "b s"] | None = None,
    ) -> Any:
        if blocks is not None:
            return self.prompt_mask(hidden, mask, blocks)[self.text_config.layer_types[layer]]
        if self.window(layer) is None:
            return super().layer_mask(layer, hidden, mask, cache)
        mask = None if mask is None else mask.to(hidden.device)
        return create_sliding_window_causal_mask(
            self.text_config, hidden, mask, cache, layer_idx=layer
        )
