"""Architectures at their real size with random weights.

Speed and memory do not depend on what a model has learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    LlavaOnevisionConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from tokenprune.bench.config import SHAPE
from tokenprune.errors import ConfigError
from tokenprune.loading.checkpoint import configuration


@dataclass(frozen=True)
class Backbone:
    """Sizes of a Qwen2 language model (DyCoke Table 8, and the checkpoints' configurations)."""

    width: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    words: int  # rows of the embedding, padded as in the checkpoints
    tied: bool = False  # whether lm_head is the embedding


SHAPES = {
    "llava-onevision-0.5b": Backbone(896, 4864, 24, 14, 2, 152000, tied=True),
    "llava-onevision-7b": Backbone(3584, 18944, 28, 28, 4, 152128),
    "llava-onevision-72b": Backbone(8192, 29568, 80, 64, 8, 152128),
}
# SigLIP-so400m at 384 px has 27 layers; LLaVA reads the last but one, so its checkpoints hold 26
# and no pooling head. 384 / 14 gives 27 x 27 patches, which 2x2 pooling makes 14 x 14 = 196 tokens
# per frame.
_TOWER: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}


def is_shape(name: str) -> bool:
    return name.startswith(SHAPE)


def shape_configuration(name: str) -> PreTrainedConfig:
    """The configuration behind `shape:NAME`: a known size, a folder or an embedded model.

    Weights are not read. Raises ConfigError for another name.
    """
    wanted = name.removeprefix(SHAPE)
    if wanted in SHAPES:
        return _llava_onevision(SHAPES[wanted])
    if wanted in ("tiny", "nano") or Path(wanted).expanduser().is_dir():
        return configuration(wanted)
    near = get_close_matches(wanted, SHAPES, n=1)
    hint = f"did you mean {SHAPE}{near[0]}? " if near else ""
    raise ConfigError(
        f"model={name} is not a shape: {hint}Known: {', '.join(SHAPES)}, and a folder with a "
        "config.json"
    )


def build(
    config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> PreTrainedModel:
    """A model of that configuration with random weights, made on the device.

    Other random numbers stay as they are.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        made = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    return made.to(device).eval()


def _llava_onevision(sizes: Backbone) -> LlavaOnevisionConfig:
    text = {
        "model_type": "qwen2",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "vocab_size": sizes.words,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "tie_word_embeddings": sizes.tied,
        "bos_token_id": None,
        "eos_token_id": 151645,
        "pad_token_id": 151643,
    }
    settings: dict[str, Any] = {
        "vision_config": _TOWER,
        "text_config": text,
        "image_token_index": 151646,
        "video_token_index": 151647,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": sizes.tied,
        "dtype": torch.bfloat16,
    }
    return LlavaOnevisionConfig(**settings)
