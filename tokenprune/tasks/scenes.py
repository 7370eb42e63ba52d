"""What happens in a synthetic video, as tensors: who is there, when, which way it moves and what
becomes of it.

Axes: b videos, f frames, o objects (at most `CROWD`), k distractors (`CLUTTER`). Everything is
drawn at once for a whole batch; `render.py` makes pixels of it, `questions.py` questions.
Lengths are in units of a frame that is `SIZE` wide and high, whatever size it is rendered at.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Generator, Tensor

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
DIRECTIONS = ("left", "right", "up", "down")
THIRDS = ("beginning", "middle", "end")

SIZE = 96
CROWD = 4  # most objects of one video
CLUTTER = 2  # most distractors of one video: grey shapes that nothing is asked about
MARGIN = 16  # a centre never comes closer to the border, so no object is ever cut
NEEDLE_FRAMES = 2  # a needle is visible in at most so many frames
_STEP = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])  # x, y of each direction
_CANDIDATES = 4  # layouts tried per video; the one whose objects keep the largest distance is taken
# share of the frames for which an object is visible, unless it is a needle or a guest
_MIN_ALIVE = 0.3
_GUEST = 3 / 16  # share of the frames for which a guest is visible


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

    @property
    def plain(self) -> bool:
        """Neither brief nor small, and of one colour throughout."""
        return not (self.needle or self.guest or self.small or self.becomes != self.colour)


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
) -> Thing:
    flags = bool(needle), bool(guest), bool(small)
    return Thing(
        COLOURS[colour], SHAPES[shape], DIRECTIONS[way], first, last, *flags, COLOURS[later], turn
    )


class _Cast(NamedTuple):
    """Who plays what: bool [b o] each, and the frames [on, off) of each object, int64 [b o];
    absent: on == off.
    """

    needle: Tensor
    guest: Tensor
    small: Tensor
    turns: Tensor
    on: Tensor
    off: Tensor


def _distinct(generator: Generator, batch: int, choices: int) -> Tensor:
    """Different numbers below `choices` in random order: int64 [b choices]."""
    return torch.rand(batch, choices, generator=generator).argsort(1)


def _roles(generator: Generator, batch: int, frames: int) -> _Cast:
    """The last object of a video may be brief, the first small, the second (or only) one may change
    its colour.

    In 60 % of the videos the lasting objects enter one after the other; one in four leaves early.
    """
    count = torch.randint(1, CROWD + 1, (batch, 1), generator=generator)
    index = torch.arange(CROWD)
    present, last = index < count, index == count - 1
    brief, tiny, turning = torch.rand(3, batch, 1, generator=generator)
    company, long = count > 1, frames >= 8  # below eight frames there is no "briefly"
    needle = last & company & (brief < (0.3 if frames >= 4 else 0.0))
    guest = last & company & (brief >= 0.3) & (brief < (0.55 if long else 0.0))
    small = present & (index == 0) & (tiny < 0.35)
    turns = (
        present
        & (index == (count > 1))
        & (turning < (0.4 if frames >= 4 else 0.0))
        & ~(needle | guest | small)
    )

    slot = (
        torch.rand(batch, CROWD, generator=generator)
        .masked_fill(~present, 2.0)
        .argsort(1)
        .argsort(1)
    )
    jitter = torch.rand(batch, CROWD, generator=generator) / 16
    staggered = torch.rand(batch, 1, generator=generator) < 0.6
    on = torch.where(staggered, (slot * 3 / 16 + jitter) * frames, 0.0).long()
    shortest = (on + max(1, round(_MIN_ALIVE * frames))).clamp(max=frames)
    length = torch.rand(batch, CROWD, generator=generator)
    early = torch.rand(batch, CROWD, generator=generator) < 0.25
    off = torch.where(early, shortest + (length * (frames - shortest)).long(), frames)

    flash = torch.randint(1, (NEEDLE_FRAMES if long else 1) + 1, (batch, 1), generator=generator)
    begin = (torch.rand(batch, 1, generator=generator) * (frames - flash + 1)).long()
    on, off = torch.where(needle, begin, on), torch.where(needle, begin + flash, off)

    stay = max(2, round(_GUEST * frames))
    third = torch.randint(len(THIRDS), (batch, 1), generator=generator)
    earliest = -(-third * frames // len(THIRDS))
    slack = (third + 1) * frames // len(THIRDS) - stay - earliest
    begin = earliest + (torch.rand(batch, 1, generator=generator) * (slack + 1)).long()
    on, off = torch.where(guest, begin, on), torch.where(guest, begin + stay, off)
    turns &= off - on >= 4  # seen in both colours, whenever it turns
    return _Cast(needle, guest, small, turns, on, torch.where(present, off, on))


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
    clock = torch.arange(frames).view(1, -1, 1)
    walked = ((clock - on.unsqueeze(1) + phase) / (off - on).clamp(min=1).unsqueeze(1)).clamp(
        0, 1
    ) - 0.5
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


def draw(generator: Generator, batch: int, frames: int) -> Scenes:
    """`batch` random scenes of `frames` frames."""
    cast = _roles(generator, batch, frames)
    hues = _distinct(generator, batch, len(COLOURS))
    clock = torch.arange(frames).view(1, -1, 1)
    on, off = cast.on.unsqueeze(1), cast.off.unsqueeze(1)
    moment = (
        on + ((0.35 + 0.3 * torch.rand(batch, 1, CROWD, generator=generator)) * (off - on)).ceil()
    )
    turned = cast.turns.unsqueeze(1) & (clock >= moment)
    colour = torch.where(
        turned, hues[:, None, CROWD, None], hues[:, None, :CROWD].expand(-1, frames, -1)
    )

    direction = torch.randint(len(DIRECTIONS), (batch, CROWD), generator=generator)
    visible = (clock >= on) & (clock < off)
    radius = 10 + 4 * torch.rand(batch, CROWD, generator=generator)

    start, end = MARGIN + (SIZE - 2 * MARGIN) * torch.rand(
        2, batch, 1, CLUTTER, 2, generator=generator
    )
    there = torch.rand(batch, CLUTTER, generator=generator) < 0.5
    upright, place, thickness, stands = torch.rand(4, batch, generator=generator)
    # small ones would vanish
    thickness = (6 + 4 * thickness) * ((stands < 0.5) & ~cast.small.any(1))
    return Scenes(
        frames=frames,
        colour=colour,
        shape=_distinct(generator, batch, len(SHAPES))[:, :CROWD],
        direction=direction,
        radius=torch.where(cast.small, radius / 2, radius),
        centre=_clearest(_paths(generator, cast.on, cast.off, direction, frames), visible),
        visible=visible,
        needle=cast.needle,
        guest=cast.guest,
        small=cast.small,
        clutter_shape=torch.randint(len(SHAPES), (batch, CLUTTER), generator=generator),
        clutter_radius=(6 + 6 * torch.rand(batch, CLUTTER, generator=generator)) * there,
        clutter_centre=torch.lerp(start, end, clock.unsqueeze(-1) / frames),
        pillar=torch.stack([(upright < 0.5).float(), SIZE * (0.2 + 0.6 * place), thickness], -1),
    )
