"""Who plays in a synthetic video and when: the parts of its objects, before anything moves.

Axes: b videos, f frames, o objects (at most `CROWD`). Every call of a generator, and their order,
are part of what a sample is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

THIRDS = ("beginning", "middle", "end")
CROWD = 4  # most objects of one video
NEEDLE_FRAMES = 2  # a needle is visible in at most so many frames
_LONG = 8  # below so many frames there is no "briefly"
# share of the frames for which an object is visible, unless it is a needle or a guest
_MIN_ALIVE = 0.3
_GUEST = 3 / 16  # share of the frames for which a guest is visible


class Cast(NamedTuple):
    """Who plays what: bool [b o] each, and the frames [on, off) of each object, int64 [b o];
    absent: on == off.
    """

    needle: Tensor
    guest: Tensor
    small: Tensor
    turns: Tensor
    fine: Tensor
    on: Tensor
    off: Tensor


Plot = Callable[[Generator, int, int], Cast]  # a generator, videos, frames: who plays in them


def roles(generator: Generator, batch: int, frames: int) -> Cast:
    """The last object of a video may be brief, the first small, the second (or only) one may change
    its colour.

    In 60 % of the videos the lasting objects enter one after the other; one in four leaves early.
    """
    count = torch.randint(1, CROWD + 1, (batch, 1), generator=generator)
    present = torch.arange(CROWD) < count
    needle, guest, small, turns = _parts(generator, count, frames)
    on = _entries(generator, present, frames)
    off = _exits(generator, on, frames)
    for brief, stay in ((needle, flash), (guest, _visit)):
        begin, end = stay(generator, batch, frames)
        on, off = torch.where(brief, begin, on), torch.where(brief, end, off)
    turns = turns & (off - on >= 4)  # seen in both colours, whenever it turns
    fine = torch.zeros_like(small)
    return Cast(needle, guest, small, turns, fine, on, torch.where(present, off, on))


def _parts(
    generator: Generator, count: Tensor, frames: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which of the `count` (int64 [b 1]) objects are a needle, a guest, small, or change their
    colour if they are there for long enough: bool [b o] each.
    """
    index, company = torch.arange(CROWD), count > 1
    present, last = index < count, index == count - 1
    brief, tiny, turning = torch.rand(3, len(count), 1, generator=generator)
    needle = last & company & (brief < (0.3 if frames >= 4 else 0.0))
    guest = last & company & (brief >= 0.3) & (brief < (0.55 if frames >= _LONG else 0.0))
    small = present & (index == 0) & (tiny < 0.35)
    eager = present & (index == company) & (turning < (0.4 if frames >= 4 else 0.0))
    return needle, guest, small, eager & ~(needle | guest | small)


def _entries(generator: Generator, present: Tensor, frames: int) -> Tensor:
    """First frames of objects that last, all at once or one after the other: int64 [b o]."""
    order = torch.rand(present.shape, generator=generator).masked_fill(~present, 2.0)
    slot = order.argsort(1).argsort(1)  # those present come first
    jitter = torch.rand(present.shape, generator=generator) / 16
    staggered = torch.rand(len(present), 1, generator=generator) < 0.6
    return torch.where(staggered, (slot * 3 / 16 + jitter) * frames, 0.0).long()


def _exits(generator: Generator, on: Tensor, frames: int) -> Tensor:
    """The frames after the last ones of objects that enter at `on`: int64 [b o]."""
    shortest = (on + max(1, round(_MIN_ALIVE * frames))).clamp(max=frames)
    length = torch.rand(on.shape, generator=generator)
    early = torch.rand(on.shape, generator=generator) < 0.25
    return torch.where(early, shortest + (length * (frames - shortest)).long(), frames)


def flash(generator: Generator, batch: int, frames: int) -> tuple[Tensor, Tensor]:
    """The frames [begin, end) of needles, anywhere in a video: int64 [b 1] each."""
    most = NEEDLE_FRAMES if frames >= _LONG else 1
    stay = torch.randint(1, most + 1, (batch, 1), generator=generator)
    begin = (torch.rand(batch, 1, generator=generator) * (frames - stay + 1)).long()
    return begin, begin + stay


def _visit(generator: Generator, batch: int, frames: int) -> tuple[Tensor, Tensor]:
    """The frames [begin, end) of guests, within one third of a video: int64 [b 1] each."""
    stay = max(2, round(_GUEST * frames))
    third = torch.randint(len(THIRDS), (batch, 1), generator=generator)
    earliest = -(-third * frames // len(THIRDS))
    slack = (third + 1) * frames // len(THIRDS) - stay - earliest
    begin = earliest + (torch.rand(batch, 1, generator=generator) * (slack + 1)).long()
    return begin, begin + stay
