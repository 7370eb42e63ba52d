"""Pixels for `scenes.py`: anti-aliased shapes over a drifting, textured, noisy background.

Neighbouring frames are similar but never equal. No loop over pixels, frames or videos: sprites are
cut once per object and blended into all frames of all videos with one gather and one scatter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from tokenprune.tasks.scenes import CLUTTER, CROWD, SIZE, Scenes

_PAINT = torch.tensor(
    [[215, 45, 45], [50, 165, 65], [55, 85, 225], [230, 205, 50], [155, 60, 190], [238, 238, 238]],
    dtype=torch.float32,
)  # RGB of scenes.COLOURS
_GREY = torch.full((3,), 132.0)  # of distractors
_STONE = 22.0  # of pillars
# side of the square a sprite is blended in; holds the largest radius (14) and an anti-aliased edge
_WINDOW = 32
_TEXTURE = 144  # side of the background, of which every frame shows a crop: room for 48 of drift


def _sprites(shape: Tensor, radius: Tensor, side: int) -> Tensor:
    """Opacity of each object in its own window: float [b o w w], `shape` int64 and `radius`
    (pixels) float [b o].
    """
    axis = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    size = radius[..., None, None].clamp(min=1)
    x, y = x / size, y / size
    u, v, away = x.abs(), y.abs(), torch.hypot(x, y)
    # signed distances in radii, negative inside, in the order of scenes.SHAPES
    outside = torch.stack(
        [
            away - 0.95,
            torch.maximum(u, v) - 0.83,
            torch.maximum(y - 0.75, (1.9 * u - (y + 1)) / 2.15),
            torch.minimum(torch.maximum(u - 0.33, v - 1), torch.maximum(v - 0.33, u - 1)),
            (away - 0.74).abs() - 0.25,
            (1.35 * u + v - 1.05) / 1.68,
        ]
    )
    index = shape[None, ..., None, None].expand(1, *radius.shape, side, side)
    return (0.5 - outside.gather(0, index)[0] * size).clamp(0, 1) * (radius > 0)[..., None, None]


def _background(generator: Generator, batch: int, frames: int, size: int) -> Tensor:
    """A texture that drifts at constant speed, plus fresh noise in every frame: float [b f
    size*size 3].
    """
    coarse = torch.rand(batch, 3, 10, 10, generator=generator) * 50
    fine = torch.rand(batch, 1, 36, 36, generator=generator) * 45
    tone = 45 + 60 * torch.rand(batch, 1, 1, 1, generator=generator)
    side = round(_TEXTURE * size / SIZE)
    texture = (
        tone
        + interpolate(coarse, (side, side), mode="bilinear")
        + interpolate(fine, (side, side), mode="bilinear")
    )
    texture = texture.flatten(2).transpose(1, 2).contiguous()  # [b t*t 3]

    # Drift between 0.3 and 2.5 units a frame at 16 frames, in any direction, wherever it starts in
    # the texture.
    room = side - size
    travel = (torch.rand(batch, 1, 2, generator=generator) - 0.5) * room / 0.6
    path = (torch.rand(batch, 1, 2, generator=generator) - 0.5) * (room - travel.abs())
    clock = (torch.arange(frames) + 0.5).view(1, -1, 1) / frames - 0.5
    corner = (room / 2 + path + travel * clock).round().long().clamp(0, room)  # [b f 2], x and y
    line = torch.arange(size)
    window = (line[:, None] * side + line).flatten()
    start = corner[..., 1] * side + corner[..., 0] + side * side * torch.arange(batch)[:, None]
    # the same as by indexing, and twice as quick
    image = texture.flatten(0, 1).index_select(0, (start[..., None] + window).flatten())
    image = image.view(batch, frames, size * size, 3)
    noise = torch.rand(batch, frames, size * size, 1, generator=generator)
    return image.add_(noise.sub_(0.5).mul_(16))


def _pillars(pillar: Tensor, size: int) -> Tensor:
    """Opacity of the pillars: float [b size*size]."""
    flat, middle, thickness = pillar.unbind(-1)
    line = torch.arange(size).expand(len(pillar), -1)
    scale = size / SIZE
    cover = (0.5 + scale * thickness[:, None] / 2 - (line - scale * middle[:, None]).abs()).clamp(
        0, 1
    )
    cover = cover * (thickness > 0)[:, None]
    column, bar = cover[:, None, :].expand(-1, size, -1), cover[:, :, None].expand(-1, -1, size)
    return torch.where(flat[:, None, None] == 0, column, bar).flatten(1)


class _Layer(NamedTuple):
    """One object or distractor of every video."""

    number: int  # what owns its pixels, -1: none
    shape: Tensor  # int64 [b], index into scenes.SHAPES
    radius: Tensor  # float [b]
    centre: Tensor  # float [b f 2]
    visible: Tensor  # bool [b f]
    paint: Tensor  # float RGB [b f 3]

    @property
    def seen(self) -> bool:
        """Whether any video shows it at all: most scenes have fewer objects than there is room."""
        return bool((self.visible & (self.radius[:, None] > 0)).any())


def render(generator: Generator, scenes: Scenes, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Videos uint8 [b f size size 3], and the object on top of every pixel int64 [b f size size]
    (-1: none).

    Distractors lie below the objects, pillars above them.
    """
    batch, frames = len(scenes), scenes.frames
    image = _background(generator, batch, frames, size).flatten(0, 1)  # [b*f h*w 3]
    owner = torch.full((batch * frames, size * size), -1)
    for layer in _layers(scenes):
        if layer.seen:
            _blend(image, owner, layer, size)
    cover = _pillars(scenes.pillar, size).repeat_interleave(frames, 0)
    image.lerp_(torch.tensor(_STONE).expand_as(image), cover.unsqueeze(-1))
    owner.masked_fill_(cover > 0.5, -1)
    video = image.clamp_(0, 255).to(torch.uint8)
    return video.view(batch, frames, size, size, 3), owner.view(batch, frames, size, size)


def _layers(scenes: Scenes) -> Iterator[_Layer]:
    """In painter's order: later ones cover earlier ones."""
    always = torch.ones(len(scenes), scenes.frames, dtype=torch.bool)
    grey = _GREY.expand(len(scenes), scenes.frames, 3)
    for k in range(CLUTTER):
        shape, radius = scenes.clutter_shape[:, k], scenes.clutter_radius[:, k]
        yield _Layer(-1, shape, radius, scenes.clutter_centre[:, :, k], always, grey)
    for o in range(CROWD):
        shape, radius = scenes.shape[:, o], scenes.radius[:, o]
        centre, visible = scenes.centre[:, :, o], scenes.visible[:, :, o]
        yield _Layer(o, shape, radius, centre, visible, _PAINT[scenes.colour[:, :, o]])


def _blend(image: Tensor, owner: Tensor, layer: _Layer, size: int) -> None:
    """Paints a layer over `image` float [b*f h*w 3], and its number into `owner` int64 [b*f h*w]
    where it is more than half opaque.
    """
    scale, side = size / SIZE, round(_WINDOW * size / SIZE)
    sprite = _sprites(layer.shape[:, None], layer.radius[:, None] * scale, side).flatten(2)
    alpha = (sprite * layer.visible.unsqueeze(-1)).flatten(0, 1)  # [b*f w*w]
    where = _windows(layer.centre * scale, side, size)
    spot = where.unsqueeze(-1).expand(-1, -1, 3)
    colour = layer.paint.reshape(-1, 1, 3).expand_as(spot)
    image.scatter_(1, spot, torch.lerp(image.gather(1, spot), colour, alpha.unsqueeze(-1)))
    owner.scatter_(1, where, torch.where(alpha > 0.5, layer.number, owner.gather(1, where)))


def _windows(centre: Tensor, side: int, size: int) -> Tensor:
    """The pixels of windows of `side` around `centre` float [b f 2] (pixels), kept within the
    frame: int64 [b*f w*w], counted row by row.
    """
    corner = (centre - (side - 1) / 2).round().long().clamp(0, size - side)  # x and y
    line = torch.arange(side)
    window = (line[:, None] * size + line).flatten()
    return (corner[..., 1] * size + corner[..., 0]).flatten()[:, None] + window
