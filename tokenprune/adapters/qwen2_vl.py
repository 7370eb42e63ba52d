"""Qwen2-VL and Qwen2.5-VL: a video is one run of rows, without text between its frames."""

from __future__ import annotations

from tokenprune.adapters.qwen_vl import QwenVL


class Qwen2VL(QwenVL, model_type="qwen2_vl"):
    """`Qwen2VLForConditionalGeneration` of any size."""


class Qwen25VL(QwenVL, model_type="qwen2_5_vl"):
    """`Qwen2_5_VLForConditionalGeneration` of any size; its tower attends within windows."""
