"""How many rows a model's positions were made for."""

from __future__ import annotations

from transformers import PreTrainedConfig

STRETCHED = ("linear", "dynamic", "yarn")  # kinds of RoPE whose `factor` multiplies the context


def context_of(config: PreTrainedConfig) -> int | None:
    """Rows that a model's positions were made for, text and visual tokens together.

    None where it does not say. `config` is the whole model's or its language model's. RoPE that is
    stretched by a `factor` counts stretched: from the context it was trained with if the
    configuration names that, and never below `max_position_embeddings`.
    """
    text = config.get_text_config()
    stated = getattr(text, "max_position_embeddings", None)
    if stated is None:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") not in STRETCHED:
        return stated
    trained = rope.get("original_max_position_embeddings") or stated
    return max(stated, int(trained * (rope.get("factor") or 1.0)))
