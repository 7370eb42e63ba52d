"""Small random models of the real classes of every family, built in milliseconds.

All weights are scaled up, so that nothing ties: logits have a standard deviation of about five.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from models import EOS, IMAGE, PAD, VIDEO
from torch import nn

from tokenprune.loading.llava_video import LlavaVideoConfig, LlavaVideoForConditionalGeneration

START, END = 2, 3  # vision start and end, and what other families call them
VOCABULARY, WIDTH, DEPTH = 64, 32, 5
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": None,
}
# 6 x 6 patches of a square frame
SQUARE: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 48,
    "patch_size": 8,
}
# patches of 4 x 4 pixels in pairs of frames, 2 x 2 of them a cell
PATCHES: dict[str, Any] = {
    "depth": 3,
    "num_heads": 3,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
MROPE = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 100.0}
MARKS = {"vision_start_token_id": START, "vision_end_token_id": END}


def llava_next_video(attention: str = "sdpa", seed: int = 0) -> Any:
    config = transformers.LlavaNextVideoConfig(
        vision_config=transformers.CLIPVisionConfig(**SQUARE, projection_dim=24),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        tie_word_embeddings=False,
        image_grid_pinpoints=[[48, 48]],
    )
    return _built(transformers.LlavaNextVideoForConditionalGeneration, config, attention, seed)


def video_llava(attention: str = "sdpa", seed: int = 0) -> Any:
    config = transformers.VideoLlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            **{**SQUARE, "image_size": 24}, projection_dim=24
        ),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        tie_word_embeddings=False,
    )
    return _built(transformers.VideoLlavaForConditionalGeneration, config, attention, seed)


def llava_video(attention: str = "sdpa", seed: int = 0) -> Any:
    config = LlavaVideoConfig(
        vision_config=transformers.SiglipVisionConfig(
            **{**SQUARE, "image_size": 56}, vision_use_head=False
        ),
        text_config=transformers.Qwen2Config(**TEXT),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=[[56, 56]],
        pool="average",
        newline="grid",
    )
    return _built(LlavaVideoForConditionalGeneration, config, attention, seed)


def qwen2_vl(attention: str = "sdpa", seed: int = 0) -> Any:
    vision = {**PATCHES, "embed_dim": 24, "hidden_size": WIDTH, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(
        vision_config=vision, text_config={**TEXT, "rope_parameters": {**MROPE}}, **_qwen()
    )
    return _built(transformers.Qwen2VLForConditionalGeneration, config, attention, seed)


def qwen2_5_vl(attention: str = "sdpa", seed: int = 0, full_blocks: tuple[int, ...] = (2,)) -> Any:
    """Its tower attends within windows of two by two cells but in `full_blocks` of three."""
    vision = {
        **PATCHES,
        "hidden_size": 24,
        "intermediate_size": 40,
        "out_hidden_size": WIDTH,
        "window_size": 16,
        "tokens_per_second": 4,
        "fullatt_block_indexes": list(full_blocks),
    }
    config = transformers.Qwen2_5_VLConfig(
        vision_config=vision, text_config={**TEXT, "rope_parameters": {**MROPE}}, **_qwen()
    )
    return _built(transformers.Qwen2_5_VLForConditionalGeneration, config, attention, seed)


def qwen3_vl(attention: str = "sdpa", seed: int = 0) -> Any:
    config = transformers.Qwen3VLConfig(
        vision_config=_deepstack(), text_config=_third_generation(), **_qwen()
    )
    return _built(transformers.Qwen3VLForConditionalGeneration, config, attention, seed)


def qwen3_vl_moe(attention: str = "sdpa", seed: int = 0) -> Any:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    config = transformers.Qwen3VLMoeConfig(
        vision_config=_deepstack(), text_config=_third_generation() | experts, **_qwen()
    )
    return _built(transformers.Qwen3VLMoeForConditionalGeneration, config, attention, seed)


def internvl(attention: str = "sdpa", seed: int = 0) -> Any:
    config = transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(**SQUARE, layer_scale_init_value=1.0),
        text_config=transformers.Qwen2Config(**TEXT),
        image_token_id=IMAGE,
        image_seq_length=9,
        tie_word_embeddings=False,
    )
    return _built(transformers.InternVLForConditionalGeneration, config, attention, seed)


def gemma3(attention: str = "sdpa", seed: int = 0) -> Any:
    """Every second layer is full, and the others see twelve rows back."""
    text = transformers.Gemma3TextConfig(
        **TEXT,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=12,
        layer_types=["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
    )
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=transformers.SiglipVisionConfig(**SQUARE, vision_use_head=False),
        mm_tokens_per_image=9,
        boi_token_index=START,
        eoi_token_index=END,
        image_token_index=IMAGE,
        tie_word_embeddings=False,
    )
    return _built(transformers.Gemma3ForConditionalGeneration, config, attention, seed)


def _qwen() -> dict[str, Any]:
    return {
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "tie_word_embeddings": False,
        **MARKS,
    }


def _deepstack() -> dict[str, Any]:
    """A tower whose every layer also feeds one of the first three of the language model."""
    return {
        **PATCHES,
        "hidden_size": 24,
        "intermediate_size": 40,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 36,
        "deepstack_visual_indexes": [0, 1, 2],
    }


def _third_generation() -> dict[str, Any]:
    return {**TEXT, "head_dim": 8, "rope_parameters": {**MROPE, "mrope_interleaved": True}}


def _built(kind: Any, config: Any, attention: str, seed: int) -> Any:
    config._attn_implementation = attention
    torch.manual_seed(seed)
    model = kind(config).eval()
    _scale_up(model, seed)
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = None  # random models would stop at random
    return model


@torch.no_grad()
def _scale_up(model: nn.Module, seed: int) -> None:
    """Weights that keep what they are given at its size; norms stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        if weight.ndim < 2:
            if name.endswith("bias"):
                weight.normal_(0.0, 0.1, generator=generator)
            continue
        rows = name.endswith(
            ("embed_tokens.weight", "pos_embed.weight", "position_embedding.weight")
        )
        size = 1.0 if rows else weight[0].numel() ** -0.5
        weight.normal_(0.0, size, generator=generator)
    head = model.get_submodule("lm_head").get_parameter("weight")
    head.mul_(5.0)
