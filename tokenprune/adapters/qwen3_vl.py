"""Qwen3-VL, dense and with experts: timestamps between frames, and tower features for three layers.

Behind the first LLM layers the text model adds features of lower tower layers ("deepstack") to the
rows of images and videos. They go with the rows: a token that was merged takes those of its
address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune.adapters.base import Given
from tokenprune.adapters.grids import Timed, fit_patches
from tokenprune.adapters.qwen_vl import QwenVL
from tokenprune.pixels import HALF, Patches

DEEPSTACK = ("visual_pos_masks", "deepstack_visual_embeds")


class Qwen3VL(QwenVL, model_type="qwen3_vl"):
    """`Qwen3VLForConditionalGeneration` of any size."""

    row_arguments = (*QwenVL.row_arguments, *DEEPSTACK)

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Timed:
        vision = config.vision_config
        patches = Patches.of(settings, whole=True, side=vision.patch_size, mean=HALF, std=HALF)
        return Timed(fit_patches(patches, vision))

    def _placed(self, ids: Int[Tensor, "b s"], features: Any, number: list[int]) -> dict[str, Any]:
        layers = [
            torch.cat([parts[place] for place in number]) for parts in features.deepstack_features
        ]
        return {
            **super()._placed(ids, features, number),
            "visual_pos_masks": self.placeholders(ids, None),
            "deepstack_visual_embeds": layers,
        }

    def narrow(
        self, given: Given, columns: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"]
    ) -> dict[str, Any]:
        mask, layers = _narrowed(given, columns, valid)
        deepstack = dict(zip(DEEPSTACK, (mask, layers), strict=True))
        return {**super().narrow(given, columns, valid), **deepstack}

    def withheld(self, given: Given, layer: int) -> dict[int, Float[Tensor, "b s d"]]:
        """The text model looks behind every layer whether its list has features for it."""
        visual, layers = given["visual_pos_masks"], given["deepstack_visual_embeds"]
        left = layers[layer:]
        del layers[layer:]
        added: dict[int, Tensor] = {}
        for number, features in enumerate(left, layer + 1):
            added[number] = features.new_zeros(*visual.shape, features.shape[-1])
            added[number][visual.to(features.device)] = features
        return added


def _narrowed(
    given: Given, columns: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"]
) -> tuple[Bool[Tensor, "b m"], list[Tensor]]:
    """The mask of visual rows and their features per layer, of some columns only."""
    visual = given["visual_pos_masks"]
    columns, valid = columns.to(visual.device), valid.to(visual.device)
    mask = visual.gather(1, columns) & valid
    place = (visual.flatten().cumsum(0) - 1).view_as(visual).gather(1, columns)
    kept = place.masked_select(mask)
    layers = given["deepstack_visual_embeds"]
    return mask, [layer.index_select(0, kept.to(layer.device)) for layer in layers]


class Qwen3VLMoe(Qwen3VL, model_type="qwen3_vl_moe"):
    """`Qwen3VLMoeForConditionalGeneration` of any size."""
