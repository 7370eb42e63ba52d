"""Models to try things on: small random ones, made in milliseconds, and the embedded one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from tokenprune.adapters import VideoLLM, adapt
from tokenprune.loading.checkpoint import load
from tokenprune.testing.prompts import Prompts, Writer, asked

PLACEHOLDER, IMAGE, PAD, WORDS = 5, 6, 0, 64
TOWER: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 48,
    "patch_size": 8,
}


@dataclass(frozen=True)
class Live:
    """A model with prompts for it.

    Args:
        name: as reports have it
        model: of transformers
        prompts: a ragged batch, and its samples alone
        eager: the same model with eager attention, where there is one
        half: the same in bfloat16, where there is one
    """

    name: str
    model: Any
    prompts: Prompts
    eager: Any = None
    half: Any = None


def toys(depth: int) -> Iterator[Live]:
    """Random models of several kinds of towers: without a CLS row, and with one."""
    for name, build in (("toy model", siglip), ("toy model with CLS", clip)):
        model, eager = (_built(build, depth, attention) for attention in ("sdpa", "eager"))
        half = _built(build, depth, "sdpa", torch.bfloat16)
        yield Live(name, model, writer(adapt(model)).prompts(), eager, half)


def embedded(name: str) -> Live:
    """The embedded model, or any other one by its name. Raises LoadingError."""
    model, processor = load(name, device="cpu", dtype="float32")
    return Live(f"the model {name}", model, asked(processor))


def writer(adapter: VideoLLM) -> Writer:
    """Prompts for a model, from its configuration alone. LoadingError where that does not do."""
    config = adapter.model.config
    preparation = adapter.preparation(config, {})
    size = adapter.text_config.vocab_size
    special = {
        value
        for settings in (config, adapter.text_config)
        for name, value in settings.to_dict().items()
        if name.endswith(("token_id", "token_index")) and isinstance(value, int)
    }
    words = [word for word in range(2, min(size, 512)) if word not in special]
    pad = adapter.text_config.pad_token_id
    return Writer(preparation, adapter.video_token_id, words, pad if isinstance(pad, int) else 0)


@cache
def _built(
    build: Callable[[int], Any], depth: int, attention: str, dtype: torch.dtype = torch.float32
) -> Any:
    """One for all checks, which leave it as it was."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = build(depth)
    config._attn_implementation = attention
    kind: Any = LlavaOnevisionForConditionalGeneration
    if isinstance(config, LlavaNextVideoConfig):
        kind = LlavaNextVideoForConditionalGeneration
    model = kind(config).to(dtype).eval()
    torch.random.set_rng_state(state)
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = None  # random models would stop at random
    return model


def siglip(depth: int) -> Any:
    """LLaVA-OneVision: SigLIP, pooling behind the projector, a newline, Qwen2."""
    settings: dict[str, Any] = {
        "vision_config": SiglipVisionConfig(**TOWER, vision_use_head=False),
        "text_config": Qwen2Config(**_language(depth)),
        "image_token_id": IMAGE,
        "video_token_id": PLACEHOLDER,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": False,
        "image_grid_pinpoints": [[48, 48]],
    }
    return LlavaOnevisionConfig(**settings)


def clip(depth: int) -> Any:
    """LLaVA-NeXT-Video: CLIP with a CLS row, pooling before the projector, Llama."""
    settings: dict[str, Any] = {
        "vision_config": CLIPVisionConfig(**TOWER, projection_dim=24),
        "text_config": LlamaConfig(**_language(depth)),
        "image_token_index": IMAGE,
        "video_token_index": PLACEHOLDER,
        "tie_word_embeddings": False,
        "image_grid_pinpoints": [[48, 48]],
    }
    return LlavaNextVideoConfig(**settings)


def _language(depth: int) -> dict[str, Any]:
    return {
        "vocab_size": WORDS,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": depth,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.3,
        "pad_token_id": PAD,
        "eos_token_id": None,
        "bos_token_id": None,
    }
