"""Which visual tokens show what a TinyVQA question asks about: its *evidence*.

Axes: f frames, c cells of a frame (one visual token each), h and w pixels, o objects.
"""

from __future__ import annotations

import math
import re

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import COLOURS, SHAPES, Scenes
from tokenprune.tasks.tinyvqa import TinyVQA

# of a cell's pixels; less of an object than this, and the cell does not show it
_SHOWN = 1 / 32


def evidence(task: TinyVQA, index: int, cells: int) -> Bool[Tensor, "f c"]:
    """The tokens that show what sample `index` asks about, of `cells` tokens per frame."""
    _, question, scenes, stream = task.scene(index)
    _, owner = render(stream, scenes, task.size)
    asked = asked_about(question.text, scenes)
    return shown(owner[0], asked, cells)


def asked_about(question: str, scenes: Scenes) -> Bool[Tensor, "f o"]:
    """Which objects of one video a question is about, in the frames that matter.

    Those that it names by colour, by shape or as small; all, if it names none. What something
    becomes is seen from the frame on in which it has its last colour.
    """
    words = set(re.findall("[a-z]+", question.lower()))
    visible, colour, shape = scenes.visible[0], scenes.colour[0], scenes.shape[0]
    hues = [number for number, name in enumerate(COLOURS) if name in words]
    forms = [number for number, name in enumerate(SHAPES) if name in words]
    bears = (_among(colour, hues) & visible).any(0)
    named = bears | _among(shape, forms)
    if "small" in words:
        named = named | scenes.small[0]
    if not (named & visible.any(0)).any():
        named = torch.ones_like(named)
    if "become" in words:
        visible = visible & (colour == colour[-1]) & (colour != colour[0])
    return visible & named


def shown(
    owner: Int[Tensor, "f h w"], asked: Bool[Tensor, "f o"], cells: int
) -> Bool[Tensor, "f c"]:
    """The cells in which an asked object owns enough pixels to be seen."""
    side = math.isqrt(cells)
    patch = owner.shape[-1] // side
    pixels = torch.zeros_like(owner, dtype=torch.bool)
    for number in range(asked.shape[1]):
        pixels |= (owner == number) & asked[:, number, None, None]
    tiles = pixels.unflatten(2, (side, patch)).unflatten(1, (side, patch))
    share = tiles.float().mean((2, 4))
    return (share >= _SHOWN).flatten(1)


def _among(values: Int[Tensor, "*n"], wanted: list[int]) -> Bool[Tensor, "*n"]:
    return torch.isin(values, torch.tensor(wanted, dtype=torch.int64))
