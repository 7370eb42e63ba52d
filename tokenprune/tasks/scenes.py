"""What happens in a synthetic video, as tensors: who is there, when, and which way it moves.

Axes: b videos, f frames, o objects (at most `CROWD`). Everything is drawn at once for a whole batch; pixels are made
from it in `render.py`, questions in `tinyvqa.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Generator, Tensor

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
DIRECTIONS = ("left", "right", "up", "down")

SIZE = 96  # pixels, both ways
CROWD = 4  # most objects of one video
MARGIN = 16  # a centre never comes closer to the border, so no object is ever cut
NEEDLE_FRAMES = 2  # a needle is visible in at most so many frames
_STEP = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])  # x, y of each direction
_CANDIDATES = 4  # layouts tried per video; the one whose objects keep the largest distance is taken
_MIN_ALIVE = 0.3  # share of the frames for which an object that is no needle is visible, at least


class Thing(NamedTuple):
    """One object of one video, in words."""

    colour: str
    shape: str
    direction: str
    first: int  # first frame it is visible in
    last: int  # last one, inclusive
    needle: bool


@dataclass(frozen=True)
class Scenes:
    """A batch of scene descriptions. Colours differ within a video and so do shapes: either word names one object."""

    frames: int
    colour: Tensor  # int64 [b o], index into COLOURS
    shape: Tensor  # int64 [b o], index into SHAPES
    direction: Tensor  # int64 [b o], index into DIRECTIONS
    radius: Tensor  # float [b o], pixels
    centre: Tensor  # float [b f o 2], x and y in pixels
    visible: Tensor  # bool [b f o]
    needle: Tensor  # bool [b o]

    def __len__(self) -> int:
        return len(self.colour)

    def pick(self, rows: Tensor) -> Scenes:
        """The scenes `rows` (int64 [n]) as a smaller batch."""
        chosen = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "frames"}
        return Scenes(frames=self.frames, **chosen)

    def things(self) -> list[list[Thing]]:
        """The visible objects of every video, in words, in the order of their first frame."""
        seen = self.visible.any(1)
        first = self.visible.int().argmax(1)
        last = self.frames - 1 - self.visible.flip(1).int().argmax(1)
        table = torch.stack([self.colour, self.shape, self.direction, first, last, self.needle, seen], -1).tolist()
        return [
            sorted(
                (
                    Thing(COLOURS[c], SHAPES[s], DIRECTIONS[d], begin, end, bool(needle))
                    for c, s, d, begin, end, needle, there in video
                    if there
                ),
                key=lambda thing: (thing.first, thing),
            )
            for video in table
        ]


def _distinct(generator: Generator, batch: int, choices: int) -> Tensor:
    """`CROWD` different numbers below `choices` per video: int64 [b o]."""
    return torch.rand(batch, choices, generator=generator).argsort(1)[:, :CROWD]


def _lifetimes(generator: Generator, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [on, off) of each object and whether it is a needle: int64, int64, bool [b o]. Absent ones have on == off.

    In 60 % of the videos the objects enter one after the other; one in four leaves early.
    """
    count = torch.randint(1, CROWD + 1, (batch, 1), generator=generator)
    present = torch.arange(CROWD) < count
    slot = torch.rand(batch, CROWD, generator=generator).masked_fill(~present, 2.0).argsort(1).argsort(1)
    jitter = torch.rand(batch, CROWD, generator=generator) / 16
    staggered = torch.rand(batch, 1, generator=generator) < 0.6
    on = torch.where(staggered, (slot * 3 / 16 + jitter) * frames, 0.0).long()

    shortest = (on + max(1, round(_MIN_ALIVE * frames))).clamp(max=frames)
    length = torch.rand(batch, CROWD, generator=generator)
    early = torch.rand(batch, CROWD, generator=generator) < 0.25
    off = torch.where(early, shortest + (length * (frames - shortest)).long(), frames)

    # One needle in a third of the videos with company; below four frames there is no "briefly".
    chance = torch.rand(batch, 1, generator=generator) < (0.35 if frames >= 4 else 0.0)
    needle = chance & (count > 1) & (torch.arange(CROWD) == count - 1)
    flash = torch.randint(1, (NEEDLE_FRAMES if frames >= 8 else 1) + 1, (batch, 1), generator=generator)
    begin = (torch.rand(batch, 1, generator=generator) * (frames - flash + 1)).long()
    on, off = torch.where(needle, begin, on), torch.where(needle, begin + flash, off)
    return on, torch.where(present, off, on), needle


def _paths(generator: Generator, on: Tensor, off: Tensor, direction: Tensor, frames: int) -> Tensor:
    """Candidate centres float [c b f o 2]: straight lines of 30 to 46 pixels, walked while the object is visible."""
    shape = (_CANDIDATES, *on.shape)
    travel = 30 + 16 * torch.rand(shape, generator=generator)
    step = _STEP[direction]  # [b o 2]
    room = (SIZE - 2 * MARGIN) - travel.unsqueeze(-1) * step.abs()
    middle = SIZE / 2 + room * (torch.rand(*shape, 2, generator=generator) - 0.5)
    phase = torch.rand(shape, generator=generator).unsqueeze(2)  # where between two frames the walk begins
    clock = torch.arange(frames).view(1, -1, 1)
    walked = ((clock - on.unsqueeze(1) + phase) / (off - on).clamp(min=1).unsqueeze(1)).clamp(0, 1) - 0.5
    return middle.unsqueeze(2) + (walked * travel.unsqueeze(2)).unsqueeze(-1) * step.unsqueeze(1)


def _clearest(centre: Tensor, visible: Tensor) -> Tensor:
    """Of the candidates [c b f o 2], per video the one whose objects stay farthest apart: float [b f o 2]."""
    gap = (centre.unsqueeze(-2) - centre.unsqueeze(-3)).norm(dim=-1)  # [c b f o o]
    together = visible.unsqueeze(-1) & visible.unsqueeze(-2) & ~torch.eye(CROWD, dtype=torch.bool)
    crowding = (gap.clamp(max=24) - 24).masked_fill(~together, 0).sum((-1, -2, -3))  # [c b], 0 is best
    best = crowding.argmax(0)
    return centre[best, torch.arange(centre.shape[1])]


def draw(generator: Generator, batch: int, frames: int) -> Scenes:
    """`batch` random scenes of `frames` frames."""
    colour, shape = _distinct(generator, batch, len(COLOURS)), _distinct(generator, batch, len(SHAPES))
    direction = torch.randint(len(DIRECTIONS), (batch, CROWD), generator=generator)
    on, off, needle = _lifetimes(generator, batch, frames)
    clock = torch.arange(frames).view(1, -1, 1)
    visible = (clock >= on.unsqueeze(1)) & (clock < off.unsqueeze(1))
    centre = _clearest(_paths(generator, on, off, direction, frames), visible)
    radius = 10 + 4 * torch.rand(batch, CROWD, generator=generator)
    return Scenes(frames, colour, shape, direction, radius, centre, visible, needle)
