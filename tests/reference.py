"""Brute-force references: no tap, no cache, no fused kernel; full attention maps, hidden rows by a
mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from models import VIDEO
from torch import Tensor
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb, repeat_kv

from tokenprune.adapters import adapt
from tokenprune.tokens import Signals, VisualTokens

# (layer, attention of the layer below [h s s]) -> mask [s s] or None
Visible = Callable[[int, Tensor], Tensor | None]


def embeddings(model, inputs, sample: int = 0) -> Tensor:
    """Uncompressed input embeddings of one unpadded sample, `[1 s d]`."""
    real = inputs["attention_mask"][sample].bool()
    ids = inputs["input_ids"][sample : sample + 1, real]
    adapter: Any = adapt(model)
    return adapter.embed(ids, inputs["pixel_values_videos"][sample : sample + 1])


def logits(
    model, embeds: Tensor, visible: Visible | None = None, positions: Tensor | None = None
) -> Tensor:
    """Logits of every row, `[s v]`; `visible` adds a mask to the causal one from some layer up."""
    language_model = model.model.language_model
    length = embeds.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    where = torch.arange(length)[None] if positions is None else positions[None]
    rotary = language_model.rotary_emb(embeds, where)
    hidden, attention = embeds, torch.zeros(0)
    for number, layer in enumerate(language_model.layers):
        mask = causal
        if visible is not None and (extra := visible(number, attention)) is not None:
            mask = causal & extra
        normed, module = layer.input_layernorm(hidden), layer.self_attn
        shape = (*normed.shape[:-1], -1, module.head_dim)
        query, key, value = (
            proj(normed).view(shape).transpose(1, 2)
            for proj in (module.q_proj, module.k_proj, module.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *rotary)
        key, value = (repeat_kv(part, module.num_key_value_groups) for part in (key, value))
        scores = (query @ key.mT * module.scaling).masked_fill(~mask, -torch.inf)
        # rows that nobody reads may see nothing at all
        attention = scores.softmax(-1).nan_to_num()
        mixed = (attention @ value).transpose(1, 2).flatten(2)
        hidden = hidden + module.o_proj(mixed)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        attention = attention[0]
    return model.lm_head(language_model.norm(hidden))[0]


def video_span(inputs, sample: int = 0) -> Tensor:
    """Marks the visual rows (not the newline) of one unpadded sample."""
    real = inputs["attention_mask"][sample].bool()
    run = inputs["input_ids"][sample, real] == VIDEO
    run[run.nonzero()[-1]] = False
    return run


def visual_tokens(model, inputs, signals: Signals, sample: int = 0) -> VisualTokens:
    """One video's tokens with tower signals from full, eager attention maps."""
    adapter = adapt(model)
    pixels = inputs["pixel_values_videos"][sample]
    frames, cells = len(pixels), adapter.cells
    seen = {}

    def spy(module, args, kwargs):
        seen["hidden"] = kwargs.get("hidden_states", args[0] if args else None)

    handle = adapter.tower_attention.register_forward_pre_hook(spy, with_kwargs=True)
    features = model.model.get_video_features(pixels[None], return_dict=True).pooler_output[0, :-1]
    handle.remove()
    module: Any = adapter.tower_attention
    heads = module.num_heads
    query, key = (
        proj(seen["hidden"]).unflatten(-1, (heads, -1)) for proj in (module.q_proj, module.k_proj)
    )  # i p h e
    if signals.saliency == "received":
        maps = torch.einsum("iphe,iqhe->ihpq", query, key) * query.shape[-1] ** -0.5
        saliency = maps.softmax(-1).mean((1, 2))
    else:
        flat = (
            query.flatten(2).mean(1, keepdim=True) @ key.flatten(2).mT * query[0, 0].numel() ** -0.5
        )
        saliency = flat.softmax(-1)[:, 0]
    keys = key.mean(2) if signals.keys == "head_mean" else key.flatten(2)
    pooled = model.model.apply_pooling(saliency[..., None])[..., 0] * (saliency.shape[1] / cells)
    return VisualTokens(
        features=features,
        keys=model.model.apply_pooling(keys).flatten(0, 1),
        saliency=pooled.flatten(),
        frame=torch.arange(frames).repeat_interleave(cells),
        slot=torch.arange(cells).repeat(frames),
        frames=frames,
        cells=cells,
    )
