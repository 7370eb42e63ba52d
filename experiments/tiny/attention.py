"""Attention for training on a CPU.

PyTorch's fused kernels are slow backwards there on heads of 32 channels.

* Tower: the kernel in float32. In bfloat16 it takes four times as long backwards (90 ms against 22
  ms for 32 frames of 144 patches on one core).
* Decoder: blocks of rows, each against the keys it may see, as plain bfloat16 matrix products: 57
  ms against 101 ms for 12 videos of 577 tokens, forwards and backwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_ROWS = 160  # of a block


def _float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **more: Any
) -> Any:
    with torch.autocast(query.device.type, enabled=False):
        out, weights = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), mask, **more
        )
    return out.to(query.dtype), weights


def _blocks(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float,
    **more: Any,
) -> Any:
    """`mask` is a bias, [b 1 s s], that hides at least what is later."""
    with torch.autocast(query.device.type, enabled=False):
        groups = query.shape[1] // key.shape[1]
        key, value = (x.bfloat16().repeat_interleave(groups, 1) for x in (key, value))
        query = (query * scaling).bfloat16()
        parts = []
        for begin in range(0, query.shape[2], _ROWS):
            end = min(begin + _ROWS, query.shape[2])
            scores = (
                query[:, :, begin:end] @ key[:, :, :end].transpose(-1, -2)
                + mask[:, :, begin:end, :end]
            )
            parts.append(scores.softmax(-1) @ value[:, :, :end])
    return torch.cat(parts, 2).transpose(1, 2), None


def train_fast(model: LlavaOnevisionForConditionalGeneration) -> None:
    """Makes the model compute its attention in the ways above."""
    for name, function in (("float32", _float32), ("blocks", _blocks)):
        AttentionInterface.register(f"train_{name}", function)
        AttentionMaskInterface.register(f"train_{name}", sdpa_mask)
    model.model.vision_tower.set_attn_implementation("train_float32")
    model.model.language_model.set_attn_implementation("train_blocks")
