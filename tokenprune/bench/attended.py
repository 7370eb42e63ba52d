"""Who attends to whom in a language model: widths of its heads, windows of its layers."""

from __future__ import annotations

import math
import statistics

from transformers import PreTrainedConfig

from tokenprune.flops import Number


def widths(text: PreTrainedConfig) -> tuple[int, int]:
    """Of all query heads side by side, and of all key/value heads."""
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    return heads * head, (getattr(text, "num_key_value_heads", None) or heads) * head


def windows(text: PreTrainedConfig) -> list[Number]:
    """How many rows a row of each layer attends to at most: no end but in sliding layers."""
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    width = getattr(text, "sliding_window", None) or math.inf
    return [width if kind == "sliding_attention" else math.inf for kind in kinds]


def keys_of_a_step(rows: Number, steps: int, window: Number) -> Number:
    """Rows that a decoding step attends to, its own included: mean over steps."""
    if rows + steps <= window:
        return rows + (steps + 1) / 2
    reached = [min(rows + step, window) for step in range(1, steps + 1)]
    return statistics.fmean(reached) if reached else 0


def pairs(rows: Number, window: Number) -> Number:
    """Queries and keys that come no later and are no further away than a window."""
    reached = min(rows, window)
    return reached * (reached + 1) / 2 + (rows - reached) * reached
