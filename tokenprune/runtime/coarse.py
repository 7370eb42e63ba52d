"""A prompt whose frames are pooled once more, for a guide that is to read fewer tokens.

Axes: `b` samples, `s` columns, `n` tokens of a video, `q` those of its pooled frames, `d` width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tokenprune import hosted
from tokenprune.adapters import VideoLLM
from tokenprune.runtime.entering import entering, kept_blocks
from tokenprune.runtime.guide import Shown
from tokenprune.runtime.shorter import shortened
from tokenprune.tokens import Video, VisualTokens


def coarser(adapter: VideoLLM, shown: Shown, side: int) -> Shown:
    """What is shown, of whose frames each square of `side` x `side` tokens is one, their mean.

    A pooled token stands where the first of its square stood, as merged tokens stand at their
    representative: families that count positions anew do so, with M-RoPE it keeps that one's.
    """
    layout, given = shown.layout, shown.given
    embeds = given["inputs_embeds"].to(layout.device)
    left = {
        unit: pooled(embeds[unit.sample].index_select(0, layout.columns(unit)), unit.video, side)
        for unit in layout.units
    }
    shorter = shortened(embeds, layout, left, adapter.lines)
    narrowed = entering(adapter, given, layout, shorter, adapter.positions == "contiguous")
    narrowed = {
        name: part.to(adapter.device) if isinstance(part, Tensor) else part
        for name, part in narrowed.items()
    }
    blocks = shown.blocks
    if blocks is not None:
        blocks = kept_blocks(blocks, shorter.columns.on(blocks.device), shorter.layout)
    return Shown(shorter.layout, narrowed, blocks, shown.shared)


def pooled(features: Float[Tensor, "n d"], video: Video, side: int) -> VisualTokens:
    """The means of squares of each frame; those at its right and lower edge may be cut off."""
    tall, wide = min(side, video.height), min(side, video.width)
    grid = features.view(video.frames, video.height, video.width, -1).permute(0, 3, 1, 2)
    means = avg_pool2d(grid, (tall, wide), ceil_mode=True, count_include_pad=False)
    cells = torch.arange(video.cells, device=features.device).view(video.height, video.width)
    slot = cells[::tall, ::wide].flatten()
    number = len(slot)
    every = torch.arange(video.frames * number, device=features.device)
    return VisualTokens(
        features=means.permute(0, 2, 3, 1).reshape(len(every), -1),
        keys=None,
        saliency=None,
        frame=hosted.note_counts(every // number, [number] * video.frames),
        slot=slot.repeat(video.frames),
        frames=video.frames,
        cells=video.cells,
    )
