"""Published models by name: their real sizes, as configurations that transformers can build.

Sources: the `config.json` of the checkpoints named beside each family (layer sizes, vocabulary,
token ids), and DyCoke's Table 8 for LLaVA-OneVision. That they add up to the numbers of parameters
on the models' cards is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

from tokenprune.loading.llava_video import LlavaVideoConfig


@dataclass(frozen=True)
class Backbone:
    """Sizes of a language model of the Qwen families."""

    width: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    words: int  # rows of the embedding, padded as in the checkpoints
    tied: bool = False  # whether lm_head is the embedding


SHAPES = {
    # llava-hf/llava-onevision-qwen2-{0.5b,7b,72b}-ov-hf
    "llava-onevision-0.5b": Backbone(896, 4864, 24, 14, 2, 152000, tied=True),
    "llava-onevision-7b": Backbone(3584, 18944, 28, 28, 4, 152128),
    "llava-onevision-72b": Backbone(8192, 29568, 80, 64, 8, 152128),
    # lmms-lab/LLaVA-Video-7B-Qwen2: the sizes of the native LLaVA-OneVision 7B, whose trainer it is
    "llava-video-7b": Backbone(3584, 18944, 28, 28, 4, 152064),
    # Qwen/Qwen2.5-VL-{3B,7B}-Instruct
    "qwen2.5-vl-3b": Backbone(2048, 11008, 36, 16, 2, 151936, tied=True),
    "qwen2.5-vl-7b": Backbone(3584, 18944, 28, 28, 4, 152064),
    # Qwen/Qwen3-VL-{4B,8B}-Instruct
    "qwen3-vl-4b": Backbone(2560, 9728, 36, 32, 8, 151936, tied=True),
    "qwen3-vl-8b": Backbone(4096, 12288, 36, 32, 8, 151936),
    # OpenGVLab/InternVL3-8B-hf
    "internvl3-8b": Backbone(3584, 18944, 28, 28, 4, 151674),
}
Settings = dict[str, Any]
# SigLIP-so400m at 384 px has 27 layers; LLaVA reads the last but one, so its checkpoints hold 26
# and no pooling head. 384 / 14 gives 27 x 27 patches, which 2x2 pooling makes 14 x 14 = 196 tokens
# per frame.
_SIGLIP: Settings = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
# windows of 8 x 8 patches in 28 of 32 layers
_QWEN2_5_TOWER: Settings = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
# by the width of the language model: smaller models have a smaller tower
_QWEN3_TOWERS: dict[int, Settings] = {
    2560: {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "deepstack_visual_indexes": [5, 11, 17],
    },
    4096: {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}
# 448 / 14 gives 32 x 32 patches, of which a pixel shuffle makes 16 x 16 = 256 tokens per frame
_INTERN_VIT: Settings = {
    "model_type": "internvl_vision",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": [448, 448],
    "patch_size": [14, 14],
    "attention_bias": True,
}


# what the checkpoints' preprocessor configurations say about the size of videos, where frames have
# no size of their own: transformers' own values are much smaller
_FRAMES: dict[str, Settings] = {
    "qwen2.5-vl": {"min_pixels": 3136, "max_pixels": 12_845_056},
    "qwen3-vl": {"size": {"shortest_edge": 4096, "longest_edge": 25_165_824}},
}


def published(name: str) -> PreTrainedConfig:
    """The configuration of a name in SHAPES."""
    sizes = SHAPES[name]
    kind, settings = _FAMILIES[_family_of(name)](sizes)
    common = {"tie_word_embeddings": sizes.tied, "dtype": torch.bfloat16}
    return AutoConfig.for_model(kind, **settings, **common)


def published_frames(name: str) -> Settings:
    """How the checkpoint of a name in SHAPES prepares frames; empty: as its tower sees them."""
    return _FRAMES.get(_family_of(name), {})


def _family_of(name: str) -> str:
    return name.rpartition("-")[0]


def _text(sizes: Backbone, context: int, theta: float, **more: Any) -> Settings:
    return {
        "hidden_size": sizes.width,
        "intermediate_size": sizes.ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "vocab_size": sizes.words,
        "max_position_embeddings": context,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta, **more},
        "tie_word_embeddings": sizes.tied,
        "bos_token_id": None,
        "eos_token_id": 151645,
        "pad_token_id": 151643,
    }


def _llava_onevision(sizes: Backbone) -> tuple[str, Settings]:
    return "llava_onevision", {
        "vision_config": _SIGLIP,
        "text_config": {"model_type": "qwen2", **_text(sizes, 32768, 1e6)},
        "image_token_index": 151646,
        "video_token_index": 151647,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }


def _llava_video(sizes: Backbone) -> tuple[str, Settings]:
    """As evaluations run it: averaged to 13 x 13 tokens a frame, each row with a newline."""
    _, settings = _llava_onevision(sizes)
    return LlavaVideoConfig.model_type, {**settings, "pool": "average", "newline": "grid"}


def _qwen2_5_vl(sizes: Backbone) -> tuple[str, Settings]:
    return "qwen2_5_vl", {
        "vision_config": {**_QWEN2_5_TOWER, "out_hidden_size": sizes.width},
        "text_config": _text(sizes, 128000, 1e6, mrope_section=[16, 24, 24]),
    }


def _qwen3_vl(sizes: Backbone) -> tuple[str, Settings]:
    rotary = {"mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text = _text(sizes, 262144, 5e6, **rotary)
    return "qwen3_vl", {
        "vision_config": {**_QWEN3_TOWERS[sizes.width], "out_hidden_size": sizes.width},
        "text_config": {**text, "head_dim": 128},
    }


def _internvl3(sizes: Backbone) -> tuple[str, Settings]:
    return "internvl", {
        "vision_config": _INTERN_VIT,
        "text_config": {"model_type": "qwen2", **_text(sizes, 32768, 1e6)},
        "image_token_id": 151667,
        "vision_feature_layer": -1,
    }


_FAMILIES: dict[str, Callable[[Backbone], tuple[str, Settings]]] = {
    "llava-onevision": _llava_onevision,
    "llava-video": _llava_video,
    "qwen2.5-vl": _qwen2_5_vl,
    "qwen3-vl": _qwen3_vl,
    "internvl3": _internvl3,
}
