"""Queries and keys of vision towers, and what is read off them, from full attention maps.

`packed` is for towers that take patches of all videos at once: they come in the order of the
patches, without the permutation into windows that Qwen2.5-VL works on. `square` is for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from family_rows import Clip, Inputs
from torch import Tensor

PATCHES = 4  # of a cell, one behind another
SIDE = 2  # of a window, in cells


@torch.no_grad()
def packed(model: Any, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Rotated queries and keys `[n h e]` of the last block, of all patches of all videos."""
    tower, last = model.model.visual, model.model.visual.blocks[-1]
    values, grids = inputs["pixel_values_videos"], inputs["video_grid_thw"]
    if hasattr(tower, "fullatt_block_indexes"):
        hidden, rotary = _in_raster_order(tower, values, grids)
        return _turned(last, hidden, rotary)[:2]
    seen: dict[str, Any] = {}

    def spy(module: Any, args: Any, kwargs: Any) -> None:
        seen["rotary"] = kwargs["position_embeddings"]

    def before(module: Any, args: Any, kwargs: Any) -> None:
        seen["hidden"] = args[0]

    handles = [
        last.attn.register_forward_pre_hook(spy, with_kwargs=True),
        last.register_forward_pre_hook(before, with_kwargs=True),
    ]
    tower(values, grid_thw=grids)
    for handle in handles:
        handle.remove()
    return _turned(last, seen["hidden"], seen["rotary"])[:2]


def _turned(block: Any, hidden: Tensor, rotary: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, rotated, and values `[n h e]` of a block."""
    cos, sin = (part.unsqueeze(-2) for part in rotary)
    parts = block.attn.qkv(block.norm1(hidden)).unflatten(-1, (3, block.attn.num_heads, -1))
    query, key, value = parts.unbind(1)
    return _rotated(query, cos, sin), _rotated(key, cos, sin), value


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, other = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-other, one], dim=-1) * sin


def _in_raster_order(tower: Any, values: Tensor, grids: Tensor) -> tuple[Tensor, Any]:
    """What enters the last block of Qwen2.5-VL's tower, and its rotation."""
    begins = grids[:, 0].cumsum(0) - grids[:, 0]
    parts = zip(begins.tolist(), grids.tolist(), strict=True)
    places = torch.cat([_places(first, *grid) for first, grid in parts])
    frame, row, column = places.unbind(1)
    window = torch.stack([frame, row // (2 * SIDE), column // (2 * SIDE)], dim=1)
    beside = (window[:, None] == window).all(-1)
    together = frame[:, None] == frame
    hidden = tower.patch_embed(values)
    rotary = tower.rotary_pos_emb(hidden, torch.stack([row, column], dim=1))
    for number, block in enumerate(tower.blocks[:-1]):
        visible = together if number in tower.fullatt_block_indexes else beside
        query, key, value = _turned(block, hidden, rotary)
        scores = torch.einsum("phe,qhe->hpq", query, key) * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        hidden = hidden + block.attn.proj(torch.einsum("hpq,qhe->phe", weights, value).flatten(1))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return hidden, rotary


def _places(first: int, frames: int, height: int, width: int) -> Tensor:
    """Frame, row and column of every patch of a video, cell by cell `[n 3]`.

    Frames are counted from `first`.
    """
    axes = torch.arange(first, first + frames), torch.arange(height), torch.arange(width)
    places = torch.cartesian_prod(*axes).view(frames, height // 2, 2, width // 2, 2, 3)
    return places.transpose(2, 3).reshape(-1, 3)


# of towers of square frames: the attention below the features, and whether CLS goes first
SQUARE = {
    "llava_onevision": ("vision_tower.encoder.layers.2.self_attn", False),
    "llava_video": ("vision_tower.encoder.layers.2.self_attn", False),
    "llava_next_video": ("vision_tower.encoder.layers.1.self_attn", True),
    "video_llava": ("video_tower.encoder.layers.1.self_attn", True),
    "internvl": ("vision_tower.encoder.layer.2.attention", True),
    "gemma3": ("vision_tower.encoder.layers.2.self_attn", False),
}


@torch.no_grad()
def square(model: Any, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Queries and keys `[f p h e]` of all frames, with CLS where there is one."""
    module = model.model.get_submodule(SQUARE[model.config.model_type][0])
    seen: dict[str, Any] = {}

    def spy(module: Any, args: Any, kwargs: Any) -> None:
        seen["hidden"] = kwargs.get("hidden_states", args[0] if args else None)

    handle = module.register_forward_pre_hook(spy, with_kwargs=True)
    if "pixel_values" in inputs:
        model.model.get_image_features(inputs["pixel_values"], return_dict=True)
    else:
        model.model.get_video_features(inputs["pixel_values_videos"], return_dict=True)
    handle.remove()
    query, key = (
        part(seen["hidden"]).unflatten(-1, (module.num_heads, -1))
        for part in (module.q_proj, module.k_proj)
    )
    return query, key


@torch.no_grad()
def pooled(model: Any, maps: Tensor) -> Tensor:
    """Means of patches `[f p d]` over the host's own cells `[f c d]`."""
    body, kind = model.model, model.config.model_type
    if kind == "llava_onevision":
        return body.apply_pooling(maps)
    if kind == "video_llava":
        return maps
    patches = int(maps.shape[1] ** 0.5)
    side = patches // 2  # an odd one's last patches are in no cell
    whole = maps.unflatten(1, (patches, patches))[:, : 2 * side, : 2 * side]
    return whole.unflatten(2, (side, 2)).unflatten(1, (side, 2)).mean((2, 4)).flatten(1, 2)


def of_cells(
    query: Tensor, key: Tensor, clips: Sequence[Clip], saliency: str, keys: str
) -> list[tuple[Tensor, Tensor]]:
    """Saliency `[n]` and keys `[n k]` of every video's cells.

    Attention is a mass, which a cell has of all its patches, and keys are their mean.
    """
    found, start = [], 0
    for clip in clips:
        patches = PATCHES * clip.height * clip.width
        span = slice(start, start + clip.frames * patches)
        frames = [part[span].unflatten(0, (clip.frames, patches)) for part in (query, key)]
        start = span.stop
        weight, flat = of_patches(*frames, saliency, keys)
        cells = weight.unflatten(1, (-1, PATCHES)).sum(-1).flatten()
        found.append((cells, flat.unflatten(1, (-1, PATCHES)).mean(2).flatten(0, 1)))
    return found


def of_frames(
    model: Any, inputs: Inputs, clips: Sequence[Clip], saliency: str, keys: str
) -> list[tuple[Tensor, Tensor]]:
    """The same of videos of square frames."""
    extra = int(SQUARE[model.config.model_type][1])
    weight, flat = of_patches(*square(model, inputs), saliency, keys, extra)
    cells, keys_of = pooled(model, weight.unsqueeze(-1)).squeeze(-1), pooled(model, flat)
    cells = cells * (weight.shape[1] / cells.shape[1])
    lengths = [clip.frames for clip in clips]
    parts = zip(cells.split(lengths), keys_of.split(lengths), strict=True)
    return [(some.flatten(), others.flatten(0, 1)) for some, others in parts]


def of_patches(
    query: Tensor, key: Tensor, saliency: str, keys: str, extra: int = 0
) -> tuple[Tensor, Tensor]:
    """Saliency `[f p]` and keys `[f p k]` of patches; `extra` rows (CLS) go before them.

    These get attention, and what they give counts for the saliency "cls" alone.
    """
    asking = query[:, :extra] if saliency == "cls" else query[:, extra:]
    weight = mean_query(asking, key) if saliency == "mean_query" else received(asking, key)
    whole = key.flatten(2) if keys == "full" else key.mean(2)
    return weight[:, extra:], whole[:, extra:]


def received(query: Tensor, key: Tensor) -> Tensor:
    """What every patch gets of all attention of its frame `[f p]`, from `[f p h e]`."""
    maps = torch.einsum("fphe,fqhe->fhpq", query, key) * query.shape[-1] ** -0.5
    return maps.softmax(-1).mean((1, 2))


def mean_query(query: Tensor, key: Tensor) -> Tensor:
    """Of one head over the full width, from the mean query."""
    mean, flat = query.flatten(2).mean(1), key.flatten(2)
    return (torch.einsum("fd,fpd->fp", mean, flat) * flat.shape[-1] ** -0.5).softmax(-1)
