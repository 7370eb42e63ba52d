"""The rows of one video in the prompts of each family, and the arguments that bring its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from models import IMAGE, VIDEO
from random_models import END, START
from torch import Tensor

TEXT = -1
Inputs = dict[str, Tensor]


class Clip(NamedTuple):
    """One video as the language model gets it, in cells."""

    frames: int
    height: int = 3
    width: int = 3


class Row(NamedTuple):
    """One row of a prompt: its token (None: any word), and the cell it stands for."""

    token: int | None = None
    frame: int = TEXT
    slot: int = 0


WORD = Row()


def _frames(clip: Clip, first: int, token: int = VIDEO) -> list[list[Row]]:
    cells = range(clip.height * clip.width)
    frames = range(first, first + clip.frames)
    return [[Row(token, frame, cell) for cell in cells] for frame in frames]


def one_run(clip: Clip, first: int) -> list[Row]:
    return [*chain.from_iterable(_frames(clip, first))]


def newline_behind(clip: Clip, first: int) -> list[Row]:
    return [*one_run(clip, first), Row(VIDEO)]


def newline_per_row(clip: Clip, first: int) -> list[Row]:
    rows = []
    for frame in _frames(clip, first):
        for start in range(0, len(frame), clip.width):
            rows += [*frame[start : start + clip.width], Row(VIDEO)]
    return rows


def cls_first(clip: Clip, first: int) -> list[Row]:
    return [*chain.from_iterable([Row(VIDEO), *frame] for frame in _frames(clip, first))]


def between_marks(clip: Clip, first: int) -> list[Row]:
    return [Row(START), *one_run(clip, first), Row(END)]


def timestamps(clip: Clip, first: int) -> list[Row]:
    """`<1.5 seconds>` and marks around every frame, and the template's own around them all."""
    rows = [Row(START)]
    for frame in _frames(clip, first):
        rows += [WORD, WORD, WORD, Row(START), *frame, Row(END)]
    return [*rows, Row(END)]


def named_frames(clip: Clip, first: int) -> list[Row]:
    """`Frame1: <img> ... </img>` and a line break."""
    rows = []
    for frame in _frames(clip, first, IMAGE):
        rows += [WORD, WORD, Row(START), *frame, Row(END), WORD]
    return rows


def images(clip: Clip, first: int) -> list[Row]:
    rows = []
    for frame in _frames(clip, first, IMAGE):
        rows += [WORD, Row(START), *frame, Row(END), WORD]
    return rows


# what brings videos


def equal_frames(side: int) -> Callable[[Sequence[Clip], torch.Generator], Inputs]:
    def media(clips: Sequence[Clip], generator: torch.Generator) -> Inputs:
        shape = (len(clips), clips[0].frames, 3, side, side)
        return {"pixel_values_videos": torch.randn(shape, generator=generator)}

    return media


def pictures(clips: Sequence[Clip], generator: torch.Generator) -> Inputs:
    frames = sum(clip.frames for clip in clips)
    return {"pixel_values": torch.randn(frames, 3, 48, 48, generator=generator)}


def patches(clips: Sequence[Clip], generator: torch.Generator) -> Inputs:
    grids = torch.tensor([(clip.frames, 2 * clip.height, 2 * clip.width) for clip in clips])
    values = torch.randn(int(grids.prod(-1).sum()), 3 * 2 * 4 * 4, generator=generator)
    return {"pixel_values_videos": values, "video_grid_thw": grids}


def timed_patches(clips: Sequence[Clip], generator: torch.Generator) -> Inputs:
    """A pair of frames lasts the longer, the more of them there are: 0.4 s to 1.2 s."""
    seconds = torch.tensor([0.2 * clip.frames for clip in clips])
    return {**patches(clips, generator), "second_per_grid_ts": seconds}
