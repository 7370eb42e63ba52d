"""What happens in a synthetic video, as tensors: who is there, when, which way it moves and what
becomes of it.

Axes: b videos, f frames, o objects (at most `CROWD`), k distractors (`CLUTTER`). Everything is
drawn at once for a whole batch; `render.py` makes pixels of it, `questions.py` questions.
Lengths are in units of a frame that is `SIZE` wide and high, whatever size it is rendered at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from tokenprune.tasks.cast import CROWD, Cast, Plot, roles
from tokenprune.tasks.cast import NEEDLE_FRAMES as NEEDLE_FRAMES  # part of this vocabulary as well
from tokenprune.tasks.cast import THIRDS as THIRDS

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
DIRECTIONS = ("left", "right", "up", "down")
_LOOK_ALIKE = torch.tensor([4, 5, 3, 2, 0, 1])  # of each shape: circle and ring, square and diamond

SIZE = 96
CLUTTER = 2  # most distractors of one video: grey shapes that nothing is asked about
MARGIN = 16  # a centre never comes closer to the border, so no object is ever cut
_STEP = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])  # x, y of each direction
_FINE = 2 / 3  # as wide as others
_CANDIDATES = 4  # layouts tried per video; the one whose objects keep the largest distance is taken


class Thing(NamedTuple):
    """One object of one video, in words."""

    colour: str
    shape: str
    direction: str
    first: int  # first frame it is visible in
    last: int  # last one, inclusive
    needle: bool  # visible in one or two frames only
    guest: bool  # visible in a few frames of one third of the video
    small: bool  # half as wide as the others
    becomes: str  # the colour it has from frame `turn` on; its own if it keeps it
    turn: int
    fine: bool = False  # two thirds as wide as the others, among look-alikes

    @property
    def plain(self) -> bool:
        """Neither brief nor small nor fine, and of one colour throughout."""
        special = self.needle or self.guest or self.small or self.fine
        return not special and self.becomes == self.colour


@dataclass(frozen=True)
class Scenes:
    """A batch of scene descriptions.

    Colours differ within a video and so do shapes: either word names one object.
    """

    frames: int
    colour: Tensor  # int64 [b f o], index into COLOURS
    shape: Tensor  # int64 [b o], index into SHAPES
    direction: Tensor  # int64 [b o], index into DIRECTIONS
    radius: Tensor  # float [b o]
    centre: Tensor  # float [b f o 2], x and y
    visible: Tensor  # bool [b f o]
    needle: Tensor  # bool [b o]
    guest: Tensor  # bool [b o]
    small: Tensor  # bool [b o]
    fine: Tensor  # bool [b o]
    clutter_shape: Tensor  # int64 [b k], index into SHAPES
    clutter_radius: Tensor  # float [b k], 0: not there
    clutter_centre: Tensor  # float [b f k 2]
    # float [b 3]: 0 for a column or 1 for a bar, its middle, its thickness (0: none)
    pillar: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def pick(self, rows: Tensor) -> Scenes:
        """The scenes `rows` (int64 [n]) as a smaller batch."""
        chosen = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "frames"}
        return Scenes(frames=self.frames, **chosen)

    @staticmethod
    def concatenate(parts: Sequence[Scenes]) -> Scenes:
        """Batches of scenes of the same length as one batch."""
        names = [f.name for f in fields(Scenes) if f.name != "frames"]
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return Scenes(frames=parts[0].frames, **columns)

    def things(self) -> list[list[Thing]]:
        """The visible objects of every video, in words, in the order of their first frame."""
        seen = self.visible.any(1)
        first = self.visible.int().argmax(1)
        last = self.frames - 1 - self.visible.flip(1).int().argmax(1)
        begins, ends = self.colour[:, 0], self.colour[:, -1]
        turn = (self.colour != begins[:, None]).int().argmax(1)
        columns = (
            begins,
            self.shape,
            self.direction,
            first,
            last,
            self.needle,
            self.guest,
            self.small,
            ends,
            turn,
            self.fine,
        )
        return [
            sorted(
                (_thing(*row) for *row, there in video if there),
                key=lambda thing: (thing.first, thing),
            )
            for video in torch.stack([*columns, seen], -1).tolist()
        ]


def _thing(
    colour: int,
    shape: int,
    way: int,
    first: int,
    last: int,
    needle: int,
    guest: int,
    small: int,
    later: int,
    turn: int,
    fine: int,
) -> Thing:
    words = COLOURS[colour], SHAPES[shape], DIRECTIONS[way]
    flags = bool(needle), bool(guest), bool(small)
    return Thing(*words, first, last, *flags, COLOURS[later], turn, bool(fine))


def _distinct(generator: Generator, batch: int, choices: int) -> Tensor:
    """Different numbers below `choices` in random order: int64 [b choices]."""
    return torch.rand(batch, choices, generator=generator).argsort(1)


def _shapes(generator: Generator, fine: Tensor) -> Tensor:
    """The shape of each object, an index into SHAPES: int64 [b o]. Fine ones (bool [b o]) come in
    pairs of look-alikes.
    """
    shapes = _distinct(generator, len(fine), len(SHAPES))
    place = shapes.argsort(1)  # of each shape
    pairs = torch.minimum(place, place[:, _LOOK_ALIKE]).argsort(dim=1, stable=True)
    return torch.where(fine, pairs[:, :CROWD], shapes[:, :CROWD])


def _clock(frames: int) -> Tensor:
    """The number of each frame: int64 [1 f 1]."""
    return torch.arange(frames).view(1, -1, 1)


def _visible(cast: Cast, frames: int) -> Tensor:
    """Whether each object is there in each frame: bool [b f o]."""
    clock = _clock(frames)
    return (clock >= cast.on.unsqueeze(1)) & (clock < cast.off.unsqueeze(1))


def _colours(generator: Generator, cast: Cast, frames: int) -> Tensor:
    """The colour of each object in each frame, an index into COLOURS: int64 [b f o].

    The one that turns takes a hue that no object has.
    """
    batch, (on, off) = len(cast.on), (cast.on.unsqueeze(1), cast.off.unsqueeze(1))
    hues = _distinct(generator, batch, len(COLOURS)).unsqueeze(1)
    share = 0.35 + 0.3 * torch.rand(batch, 1, CROWD, generator=generator)
    moment = on + (share * (off - on)).ceil()
    turned = cast.turns.unsqueeze(1) & (_clock(frames) >= moment)
    return torch.where(turned, hues[..., CROWD, None], hues[..., :CROWD].expand(-1, frames, -1))


def _paths(generator: Generator, on: Tensor, off: Tensor, direction: Tensor, frames: int) -> Tensor:
    """Candidate centres float [c b f o 2]: straight lines of 44 to 60, walked while the object is
    visible.
    """
    shape = (_CANDIDATES, *on.shape)
    travel = 44 + 16 * torch.rand(shape, generator=generator)
    step = _STEP[direction]  # [b o 2]
    room = (SIZE - 2 * MARGIN) - travel.unsqueeze(-1) * step.abs()
    middle = SIZE / 2 + room * (torch.rand(*shape, 2, generator=generator) - 0.5)
    # where between two frames the walk begins
    phase = torch.rand(shape, generator=generator).unsqueeze(2)
    since = _clock(frames) - on.unsqueeze(1) + phase
    walked = (since / (off - on).clamp(min=1).unsqueeze(1)).clamp(0, 1) - 0.5
    return middle.unsqueeze(2) + (walked * travel.unsqueeze(2)).unsqueeze(-1) * step.unsqueeze(1)


def _clearest(centre: Tensor, visible: Tensor) -> Tensor:
    """Of the candidates [c b f o 2], per video the one whose objects stay farthest apart: float [b
    f o 2].
    """
    gap = (centre.unsqueeze(-2) - centre.unsqueeze(-3)).norm(dim=-1)  # [c b f o o]
    together = visible.unsqueeze(-1) & visible.unsqueeze(-2) & ~torch.eye(CROWD, dtype=torch.bool)
    # [c b], 0 is best
    crowding = (gap.clamp(max=24) - 24).masked_fill(~together, 0).sum((-1, -2, -3))
    best = crowding.argmax(0)
    return centre[best, torch.arange(centre.shape[1])]


def _drift(generator: Generator, batch: int, frames: int) -> Tensor:
    """Centres of distractors, from anywhere to anywhere: float [b f k 2]."""
    ends = torch.rand(2, batch, 1, CLUTTER, 2, generator=generator)
    start, end = MARGIN + (SIZE - 2 * MARGIN) * ends
    return torch.lerp(start, end, _clock(frames).unsqueeze(-1) / frames)


def _pillars(generator: Generator, small: Tensor) -> Tensor:
    """Pillars as `Scenes.pillar`, none where an object is small (bool [b o]): float [b 3]."""
    upright, place, thickness, stands = torch.rand(4, len(small), generator=generator)
    # small ones would vanish
    thickness = (6 + 4 * thickness) * ((stands < 0.5) & ~small.any(1))
    return torch.stack([(upright < 0.5).float(), SIZE * (0.2 + 0.6 * place), thickness], -1)


def draw(generator: Generator, batch: int, frames: int, plot: Plot = roles) -> Scenes:
    """`batch` random scenes of `frames` frames, with the cast of a `plot`."""
    # in this order: who asks the generator when is part of what a sample is
    cast = plot(generator, batch, frames)
    colour = _colours(generator, cast, frames)
    direction = torch.randint(len(DIRECTIONS), (batch, CROWD), generator=generator)
    radius = 10 + 4 * torch.rand(batch, CROWD, generator=generator)
    drift = _drift(generator, batch, frames)
    there = torch.rand(batch, CLUTTER, generator=generator) < 0.5
    pillar = _pillars(generator, cast.small)
    shape = _shapes(generator, cast.fine)
    paths = _paths(generator, cast.on, cast.off, direction, frames)
    visible = _visible(cast, frames)
    return Scenes(
        frames=frames,
        colour=colour,
        shape=shape,
        direction=direction,
        radius=radius * torch.where(cast.small, 0.5, torch.where(cast.fine, _FINE, 1.0)),
        centre=_clearest(paths, visible),
        visible=visible,
        needle=cast.needle,
        guest=cast.guest,
        small=cast.small,
        fine=cast.fine,
        clutter_shape=torch.randint(len(SHAPES), (batch, CLUTTER), generator=generator),
        clutter_radius=(6 + 6 * torch.rand(batch, CLUTTER, generator=generator)) * there,
        clutter_centre=drift,
        pillar=pillar,
    )
