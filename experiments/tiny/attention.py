"""Attention for training: a prefix that is causal, and questions that see it and themselves.

PyTorch's fused kernel computes either part; under one mask for both it would compute what the mask
hides. On a CPU it is used in float32, as all products are (see `train.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def _exact(*tensors: Tensor) -> list[Tensor]:
    """In float32 on a CPU."""
    return [x.float() if x.device.type == "cpu" else x for x in tensors]


def _tower(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **more: Any
) -> Any:
    kind = query.dtype
    query, key, value = _exact(query, key, value)
    with torch.autocast(query.device.type, enabled=False):
        out, weights = sdpa_attention_forward(module, query, key, value, mask, **more)
    return out.to(kind), weights


def _packed(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float,
    **more: Any,
) -> Any:
    """`mask` is the bias of the last rows, those of the text: [b 1 t s]; rows before are causal."""
    groups, kind = query.shape[1] // key.shape[1], query.dtype
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    query, key, value = _exact(query, key, value)
    with torch.autocast(query.device.type, enabled=False):
        out = packed(query, key, value, mask, scaling)
    return out.transpose(1, 2).to(kind), None


def packed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Float [b h s d] each; `mask` is the bias of the last rows, rows before it are causal."""
    prefix = query.shape[2] - mask.shape[2]
    before = [x[:, :, :prefix] for x in (query, key, value)]
    first = scaled_dot_product_attention(
        before[0], before[1], before[2], is_causal=True, scale=scaling
    )
    bias = mask.to(query.dtype).expand(-1, query.shape[1], -1, -1)
    rest = scaled_dot_product_attention(
        query[:, :, prefix:], key, value, attn_mask=bias, scale=scaling
    )
    return torch.cat([first, rest], 2)


def train_fast(model: LlavaOnevisionForConditionalGeneration) -> None:
    """Makes the model compute its attention in the ways above."""
    for name, function in (("tower", _tower), ("packed", _packed)):
        AttentionInterface.register(f"train_{name}", function)
        AttentionMaskInterface.register(f"train_{name}", sdpa_mask)
    model.model.vision_tower.set_attn_implementation("train_tower")
    model.model.language_model.set_attn_implementation("train_packed")
