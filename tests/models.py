"""Small random LLaVA-OneVision models that tests build in milliseconds, and prompts for them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from tokenprune import registry

VIDEO, IMAGE, PAD, EOS = 5, 6, 0, 1
CELLS = 9  # 48 px, patches of 8, pooled from 6x6 to 3x3


def llava_onevision(
    seed: int = 0,
    depth: int = 5,
    width: int = 32,
    attention: str = "sdpa",
    tower_depth: int = 3,
    words: int = 64,
    side: int = 48,
    tied: bool = False,
) -> Any:  # transformers' own annotations do not let a checker bind `generate`
    torch.manual_seed(seed)
    vision = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=tower_depth,
        num_attention_heads=3,
        image_size=side,
        patch_size=8,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        tie_word_embeddings=tied,
    )
    settings: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": tied,
        "image_grid_pinpoints": [[side, side]],
    }
    config = LlavaOnevisionConfig(**settings)
    config._attn_implementation = attention
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = None  # random models would stop at random
    return model


def prompt(
    frames: int = 4,
    texts: tuple[tuple[int, int], ...] = ((4, 5),),
    seed: int = 0,
    pad: str = "left",
) -> dict[str, torch.Tensor]:
    """A batch: per sample (text before, text after) a video of `frames`; padded to the left or
    right.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for before, after in texts:
        words = torch.randint(8, 64, (before + after,), generator=generator)
        video = torch.full((frames * CELLS + 1,), VIDEO)
        rows.append(torch.cat([words[:before], video, words[before:]]))
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), PAD)
    for index, row in enumerate(rows):
        span = slice(longest - len(row), None) if pad == "left" else slice(0, len(row))
        ids[index, span] = row
    pixels = torch.randn(len(rows), frames, 3, 48, 48, generator=generator)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "pixel_values_videos": pixels}


def shallow(name: str, depth: int = 5) -> dict[str, int]:
    """Options by which a strategy that acts far up in the papers' models acts in these."""
    layer = getattr(registry.get(name), "layer", 1)
    return {f"{name}.layer": depth // 2} if layer >= depth else {}
