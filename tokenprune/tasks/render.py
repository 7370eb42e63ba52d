"""Pixels for `scenes.py`: anti-aliased shapes over a drifting, textured, noisy background.

Neighbouring frames are similar but never equal. No loop over pixels, frames or videos: sprites are cut once per
object and blended into all frames of all videos with one gather and one scatter.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from tokenprune.tasks.scenes import CROWD, SIZE, Scenes

_PAINT = torch.tensor(
    [[215, 45, 45], [50, 165, 65], [55, 85, 225], [230, 205, 50], [155, 60, 190], [238, 238, 238]], dtype=torch.float32
)  # RGB of scenes.COLOURS
_WINDOW = 32  # side of the square a sprite is blended in; holds the largest radius (14) and an anti-aliased edge
_TEXTURE = 144  # side of the background, of which every frame shows a crop: room for 48 pixels of drift


def _sprites(shape: Tensor, radius: Tensor) -> Tensor:
    """Opacity of each object in its own window: float [b o w w], `shape` int64 and `radius` float [b o]."""
    axis = torch.arange(_WINDOW) - (_WINDOW - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x / radius[..., None, None], y / radius[..., None, None]
    u, v, away = x.abs(), y.abs(), torch.hypot(x, y)
    outside = torch.stack(  # signed distances in radii, negative inside, in the order of scenes.SHAPES
        [
            away - 0.95,
            torch.maximum(u, v) - 0.83,
            torch.maximum(y - 0.75, (1.9 * u - (y + 1)) / 2.15),
            torch.minimum(torch.maximum(u - 0.33, v - 1), torch.maximum(v - 0.33, u - 1)),
            (away - 0.74).abs() - 0.25,
            (1.35 * u + v - 1.05) / 1.68,
        ]
    )
    index = shape[None, ..., None, None].expand(1, *radius.shape, _WINDOW, _WINDOW)
    return (0.5 - outside.gather(0, index)[0] * radius[..., None, None]).clamp(0, 1)


def _background(generator: Generator, batch: int, frames: int) -> Tensor:
    """A texture that drifts at constant speed, plus fresh noise in every frame: float [b f SIZE*SIZE 3]."""
    coarse = torch.rand(batch, 3, 10, 10, generator=generator) * 50
    fine = torch.rand(batch, 1, 36, 36, generator=generator) * 45
    tone = 45 + 60 * torch.rand(batch, 1, 1, 1, generator=generator)
    size = (_TEXTURE, _TEXTURE)
    texture = tone + interpolate(coarse, size, mode="bilinear") + interpolate(fine, size, mode="bilinear")
    texture = texture.flatten(2).transpose(1, 2).contiguous()  # [b t*t 3]

    # Drift between 0.3 and 2.5 pixels a frame at 16 frames, in any direction, wherever it starts in the texture.
    room = _TEXTURE - SIZE
    travel = (torch.rand(batch, 1, 2, generator=generator) - 0.5) * 80
    path = (torch.rand(batch, 1, 2, generator=generator) - 0.5) * (room - travel.abs())
    clock = (torch.arange(frames) + 0.5).view(1, -1, 1) / frames - 0.5
    corner = (room / 2 + path + travel * clock).round().long().clamp(0, room)  # [b f 2], x and y
    line = torch.arange(SIZE)
    window = (line[:, None] * _TEXTURE + line).flatten()
    start = corner[..., 1] * _TEXTURE + corner[..., 0] + _TEXTURE * _TEXTURE * torch.arange(batch)[:, None]
    image = texture.flatten(0, 1)[start[..., None] + window]
    return image + 16 * (torch.rand(batch, frames, SIZE * SIZE, 1, generator=generator) - 0.5)


def render(generator: Generator, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Videos uint8 [b f h w 3], and the object on top of every pixel int64 [b f h w] (-1: background)."""
    batch, frames = len(scenes), scenes.frames
    flat = batch * frames
    image = _background(generator, batch, frames).flatten(0, 1)  # [b*f h*w 3]
    owner = torch.full((flat, SIZE * SIZE), -1)
    sprite = _sprites(scenes.shape, scenes.radius).flatten(2)  # [b o w*w]
    corner = (scenes.centre - (_WINDOW - 1) / 2).round().long()  # [b f o 2]
    line = torch.arange(_WINDOW)
    window = (line[:, None] * SIZE + line).flatten()
    for o in range(CROWD):  # painter's order: later objects cover earlier ones
        alpha = (sprite[:, None, o] * scenes.visible[:, :, o, None]).flatten(0, 1)  # [b*f w*w]
        where = (corner[..., o, 1] * SIZE + corner[..., o, 0]).flatten()[:, None] + window
        paint = _PAINT[scenes.colour[:, o]].repeat_interleave(frames, 0)[:, None]
        spot = where.unsqueeze(-1).expand(-1, -1, 3)
        image.scatter_(1, spot, torch.lerp(image.gather(1, spot), paint.expand_as(spot), alpha.unsqueeze(-1)))
        owner.scatter_(1, where, torch.where(alpha > 0.5, o, owner.gather(1, where)))
    video = image.clamp_(0, 255).to(torch.uint8)
    return video.view(batch, frames, SIZE, SIZE, 3), owner.view(batch, frames, SIZE, SIZE)
