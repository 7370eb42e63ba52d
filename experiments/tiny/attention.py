"""Attention for training: a prefix that is causal, and questions that see it and themselves.

On a GPU PyTorch's fused kernels. On a CPU they are slow backwards on heads of 32 channels:

* Tower: the kernel in float32. In bfloat16 it takes four times as long backwards (90 ms against 22
  ms for 32 frames of 144 patches on one core).
* Decoder: blocks of rows, each against the keys it may see, as plain bfloat16 matrix products: 57
  ms against 101 ms for 12 videos of 577 tokens, forwards and backwards.
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

_ROWS = 160  # of a block
_HIDDEN = -1e4


def _tower(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **more: Any
) -> Any:
    if query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, mask, **more)
    with torch.autocast("cpu", enabled=False):
        out, weights = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), mask, **more
        )
    return out.to(query.dtype), weights


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
    groups, prefix = query.shape[1] // key.shape[1], query.shape[2] - mask.shape[2]
    key, value = (x.to(mask.dtype).repeat_interleave(groups, 1) for x in (key, value))
    kind, query = query.dtype, query.to(mask.dtype)
    with torch.autocast(query.device.type, enabled=False):
        attend = fused if query.device.type != "cpu" else by_blocks
        out = attend(query, key, value, mask, prefix, scaling)
    return out.transpose(1, 2).to(kind), None


def fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, prefix: int, scaling: float
) -> Tensor:
    before = [x[:, :, :prefix] for x in (query, key, value)]
    first = scaled_dot_product_attention(
        before[0], before[1], before[2], is_causal=True, scale=scaling
    )
    bias = mask.expand(-1, query.shape[1], -1, -1)
    rest = scaled_dot_product_attention(
        query[:, :, prefix:], key, value, attn_mask=bias, scale=scaling
    )
    return torch.cat([first, rest], 2)


def by_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, prefix: int, scaling: float
) -> Tensor:
    query, key = query * scaling, key.transpose(-1, -2)
    later = torch.full((_ROWS, _ROWS), _HIDDEN, dtype=query.dtype).triu(1)
    first = []
    for begin in range(0, prefix, _ROWS):
        end = min(begin + _ROWS, prefix)
        scores = query[:, :, begin:end] @ key[..., :end]
        size = end - begin
        scores[..., begin:].add_(later[:size, :size])
        first.append(scores.softmax(-1) @ value[:, :, :end])
    scores = query[:, :, prefix:] @ key
    rest = scores.add_(mask).softmax(-1) @ value
    return torch.cat([*first, rest], 2)


def train_fast(model: LlavaOnevisionForConditionalGeneration) -> None:
    """Makes the model compute its attention in the ways above."""
    for name, function in (("tower", _tower), ("packed", _packed)):
        AttentionInterface.register(f"train_{name}", function)
        AttentionMaskInterface.register(f"train_{name}", sdpa_mask)
    model.model.vision_tower.set_attn_implementation("train_tower")
    model.model.language_model.set_attn_implementation("train_packed")
