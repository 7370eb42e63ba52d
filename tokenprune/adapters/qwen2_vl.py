"""Qwen2-VL and Qwen2.5-VL: a video is one run of rows, without text between its frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from tokenprune.adapters.grids import Grids, fit_patches
from tokenprune.adapters.qwen_vl import QwenVL
from tokenprune.pixels import Patches


class Qwen2VL(QwenVL, model_type="qwen2_vl"):
    """`Qwen2VLForConditionalGeneration` of any size."""

    seconds: ClassVar[bool] = False  # whether the model is told how far apart frames are

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Grids:
        vision = config.vision_config
        patches = Patches.of(settings, side=vision.patch_size)
        return Grids(fit_patches(patches, vision), cls.seconds)


class Qwen25VL(Qwen2VL, model_type="qwen2_5_vl"):
    """`Qwen2_5_VLForConditionalGeneration` of any size; its tower attends within windows."""

    seconds = True
