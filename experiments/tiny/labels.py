"""What each cell of a video shows, for the losses on single tokens.

Axes: b videos, f frames, c cells of a frame (36), o objects.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from tokenprune.tasks.scenes import COLOURS, CROWD, SHAPES, SIZE, Scenes

CELL = 16  # pixels of a pooled cell, both ways
CELLS = (SIZE // CELL) ** 2  # of a frame
UNCLEAR = -100
# covered shares from which a cell shows an object, and below which it shows none
_SHOWN, _BARE = 0.12, 0.03


class Labels(NamedTuple):
    """Video by video, so that rows can be picked."""

    # int8 [b 3 f c]: index of colour, shape, smallness; one past the last word: "none"
    cells: Tensor
    # int8 [b 3 f c]: direction so far, frame number, whether the colour has changed
    course: Tensor
    # bfloat16 [b f c 2]: how far its object has come since it was first seen, in thirds of a frame
    drift: Tensor


def cell_labels(scenes: Scenes, owner: Tensor) -> Labels:
    """What each cell shows, by the object on top of every pixel: `cells`, `course` and `drift`.

    `owner` is int64 [b f h w].
    """
    layers = one_hot(owner.flatten(0, 1) + 1, CROWD + 1)[..., 1:].permute(0, 3, 1, 2).float()
    share, thing = avg_pool2d(layers, CELL).flatten(2).max(1)  # [b*f c]
    share, thing = (x.view(*owner.shape[:2], -1) for x in (share, thing))

    def shown(label: Tensor) -> Tensor:
        """`label`, [b o] or [b f o], of the thing each cell shows."""
        return (label if label.ndim == 3 else label[:, None].expand(-1, scenes.frames, -1)).gather(
            2, thing
        )

    words = []
    small = shown(scenes.small)
    for label, none in (
        (scenes.colour, len(COLOURS)),
        (scenes.shape, len(SHAPES)),
        ((~scenes.small).long(), 1),
    ):
        words.append(
            shown(label).masked_fill(share < _SHOWN, UNCLEAR).masked_fill(share < _BARE, none)
        )
    words[1].masked_fill_(small & (share >= _BARE), UNCLEAR)  # too small to tell

    seen = shown(scenes.visible.long().cumsum(1))  # frames that have shown it, this one included
    clear = share >= _SHOWN
    way = shown(scenes.direction).masked_fill(
        ~clear | (seen <= max(1, scenes.frames // 4)), UNCLEAR
    )
    clock = torch.arange(scenes.frames)[:, None].expand_as(way).masked_fill(~clear, UNCLEAR)
    turned = shown((scenes.colour != scenes.colour[:, :1]).long()).masked_fill(~clear, UNCLEAR)
    first = scenes.visible.int().argmax(1)[:, None, :, None].expand(-1, 1, -1, 2)
    come = (scenes.centre - scenes.centre.gather(1, first)) * (3 / SIZE)
    drift = come.gather(2, thing.unsqueeze(-1).expand(-1, -1, -1, 2))
    return Labels(
        torch.stack(words, 1).to(torch.int8),
        torch.stack([way, clock, turned], 1).to(torch.int8),
        drift.bfloat16(),
    )
