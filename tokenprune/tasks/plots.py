"""Casts made for the hard questions: each keeps one kind of evidence where it is easily lost.

None of them favours a way of choosing tokens: what counts is rare in time (`apart`, `procession`)
or fine in space (`twins`), anywhere in the video, and the rest of the video is as in other samples.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from tokenprune.tasks.cast import CROWD, Cast, flash, roles


def apart(generator: Generator, batch: int, frames: int) -> Cast:
    """The last two objects are needles, at least half the video apart; up to two others last."""
    cast = roles(generator, batch, frames)
    count = torch.randint(2, CROWD + 1, (batch, 1), generator=generator)
    index = torch.arange(CROWD)
    brief = (index >= count - 2) & (index < count)
    early, late = _far(generator, batch, frames)
    first = torch.rand(batch, 1, generator=generator) < 0.5  # which of the two comes first
    leads = (index == count - 2) == first
    on = torch.where(leads, early[..., 0], late[..., 0])
    off = torch.where(leads, early[..., 1], late[..., 1])
    begin = torch.where(brief, on, 0)
    end = torch.where(index < count, torch.where(brief, off, frames), begin)
    return _only(cast, needle=brief, on=begin, off=end)


def procession(generator: Generator, batch: int, frames: int) -> Cast:
    """One to four objects, all of them needles, one after another and never together."""
    cast = roles(generator, batch, frames)
    count = torch.randint(1, CROWD + 1, (batch, 1), generator=generator)
    present = torch.arange(CROWD) < count
    turn = torch.rand(batch, CROWD, generator=generator).argsort(1)
    begin, end = turn * frames // CROWD, (turn + 1) * frames // CROWD
    stay = torch.randint(1, 3, (batch, CROWD), generator=generator).clamp(max=frames // CROWD)
    slack = end - begin - stay
    on = begin + (torch.rand(batch, CROWD, generator=generator) * (slack + 1)).long()
    return _only(cast, needle=present, on=on, off=torch.where(present, on + stay, on))


def twins(generator: Generator, batch: int, frames: int) -> Cast:
    """Four objects, there throughout and two thirds as wide as usual: two pairs of look-alikes."""
    cast = roles(generator, batch, frames)
    everyone = torch.ones(batch, CROWD, dtype=torch.bool)
    always = torch.full((batch, CROWD), frames)
    return _only(cast, fine=everyone, on=torch.zeros_like(always), off=always)


def _far(generator: Generator, batch: int, frames: int) -> tuple[Tensor, Tensor]:
    """The frames [begin, end) of two needles, half the video apart or more: int64 [b 1 2] each."""
    begin, end = flash(generator, batch, frames)
    stay = end - begin
    draws = torch.rand(2, batch, 1, generator=generator)
    early = (draws[0] * (frames // 4)).long()
    earliest = early + -(-frames // 2)
    late = earliest + (draws[1] * (frames - stay - earliest + 1)).long()
    return torch.stack([early, early + stay], -1), torch.stack([late, late + stay], -1)


def _only(cast: Cast, *, on: Tensor, off: Tensor, **parts: Tensor) -> Cast:
    """`cast` with these times, and with these parts and no others: nothing is left of it but its
    draws, which are part of what a sample is.
    """
    nobody = torch.zeros_like(on, dtype=torch.bool)
    names = ("needle", "guest", "small", "turns", "fine")
    return cast._replace(on=on, off=off, **{name: parts.get(name, nobody) for name in names})
