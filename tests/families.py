"""Every family of models as the tests need it: a small random model, and prompts with the numbers
that are known of each of their rows.

Nothing here is asked of tokenprune. `FAMILIES` is the matrix of tests, by `model_type`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import models
import random_models
import torch
from family_rows import (
    END,
    START,
    TEXT,
    WORD,
    Clip,
    Inputs,
    Row,
    between_marks,
    cls_first,
    equal_frames,
    images,
    named_frames,
    newline_behind,
    newline_per_row,
    one_run,
    patches,
    pictures,
    timed_patches,
    timestamps,
)
from models import IMAGE, PAD, VIDEO
from torch import Tensor


class Ask(NamedTuple):
    """One sample: words, perhaps a picture, videos, words."""

    before: int = 4
    clips: tuple[Clip, ...] = ()
    after: int = 5
    picture: bool = False


@dataclass(frozen=True)
class Prompt:
    """A padded batch, what is known of its rows `[b s]` and of the samples' videos, and the samples
    unpadded.
    """

    inputs: Inputs
    frame: Tensor
    slot: Tensor
    clips: tuple[tuple[Clip, ...], ...]
    alone: tuple[Inputs, ...]

    def videos(self) -> list[int]:
        """The samples that hold one."""
        return [number for number, clips in enumerate(self.clips) if clips]


@dataclass(frozen=True)
class Family:
    """What a family of models takes and how its prompts look.

    Args:
        build: a model, from an attention implementation and a seed
        clips: what the samples of a usual batch show; of equal length where the family wants it
        rows: the rows of one video, the frames of which are counted from a number
        media: the arguments that bring videos
        layers: two LLM layers before which a stage may drop rows
        mrope: positions have three axes and stay as they were
        apart: a call tells the videos of a sample apart; else all its frames are one
        types: the argument that says of each row what it is, and what a visual row has there
    """

    model_type: str
    build: Callable[..., Any]
    clips: tuple[Clip, Clip]
    rows: Callable[[Clip, int], list[Row]]
    media: Callable[[Sequence[Clip], torch.Generator], Inputs]
    layers: tuple[int, int] = (1, 2)
    mrope: bool = False
    apart: bool = True
    types: tuple[str, int] | None = None
    placeholder: int = VIDEO

    def model(self, attention: str = "sdpa", seed: int = 0) -> Any:
        """One for all tests, which leave it as it was."""
        return _kept(self, attention, seed)

    def prompt(self, asks: Sequence[Ask] | None = None, seed: int = 0, pad: str = "left") -> Prompt:
        """A batch; the usual one has two ragged videos and a sample of words only."""
        one, other = self.clips
        asks = asks or [Ask(4, (one,), 5), Ask(1, (other,), 8), Ask(6, (), 3)]
        generator = torch.Generator().manual_seed(seed)
        samples = [self._rows(ask) for ask in asks]
        ids = [_words(rows, generator) for rows in samples]
        media = [self._media(ask, generator) for ask in asks]
        alone = [self._sample(*pair) for pair in zip(ids, media, strict=True)]
        batch = _padded([torch.tensor(row) for row in ids], PAD, pad)
        inputs = self._sample(batch, {}) | _together(media)
        frames = [torch.tensor([row.frame for row in rows]) for rows in samples]
        slots = [torch.tensor([row.slot for row in rows]) for rows in samples]
        return Prompt(
            inputs,
            _padded(frames, TEXT, pad),
            _padded(slots, 0, pad),
            tuple(self._videos(ask.clips) for ask in asks),
            tuple(alone),
        )

    def _videos(self, clips: tuple[Clip, ...]) -> tuple[Clip, ...]:
        """What counts as the videos of a sample that shows `clips`."""
        if self.apart or not clips:
            return clips
        return (clips[0]._replace(frames=sum(clip.frames for clip in clips)),)

    def _rows(self, ask: Ask) -> list[Row]:
        rows, frames = [WORD] * ask.before, 0
        if ask.picture:
            rows += [Row(START), *[Row(IMAGE)] * PICTURE.height * PICTURE.width, Row(END)]
        for clip in ask.clips:
            rows += [*self.rows(clip, frames), WORD]
            frames += clip.frames
        return rows + [WORD] * (ask.after - len(ask.clips))

    def _media(self, ask: Ask, generator: torch.Generator) -> Inputs:
        media = self.media(ask.clips, generator) if ask.clips else {}
        if not ask.picture:
            return media
        values, grids = patches([PICTURE], generator).values()
        return {**media, "pixel_values": values, "image_grid_thw": grids}

    def _sample(self, ids: Any, media: Inputs) -> Inputs:
        ids = torch.atleast_2d(torch.as_tensor(ids))
        inputs = {"input_ids": ids, "attention_mask": (ids != PAD).long(), **media}
        if self.types is not None:
            name, kind = self.types
            inputs[name] = kind * (ids == self.placeholder).long()
            if self.placeholder == VIDEO:
                inputs[name] += (ids == IMAGE).long()
        return inputs


@cache
def _kept(family: Family, attention: str, seed: int) -> Any:
    return family.build(attention, seed)


def _words(rows: Sequence[Row], generator: torch.Generator) -> list[int]:
    words = torch.randint(8, 64, (len(rows),), generator=generator).tolist()
    return [word if row.token is None else row.token for row, word in zip(rows, words, strict=True)]


def _padded(rows: Sequence[Tensor], filler: int, side: str) -> Tensor:
    longest = max(map(len, rows))
    batch = torch.full((len(rows), longest), filler)
    for number, row in enumerate(rows):
        where = slice(longest - len(row), None) if side == "left" else slice(0, len(row))
        batch[number, where] = row
    return batch


def _together(media: Sequence[Inputs]) -> Inputs:
    names = {name for part in media for name in part}
    return {name: torch.cat([part[name] for part in media if name in part]) for name in names}


PICTURE = Clip(1, 2, 2)
RAGGED = (Clip(3, 2, 3), Clip(5, 3, 2))
MARKED = ("mm_token_type_ids", 2)


def _llava(
    model_type: str,
    build: Any,
    rows: Callable[[Clip, int], list[Row]],
    side: int = 48,
    apart: bool = True,
) -> Family:
    clips = (Clip(4), Clip(4))
    return Family(model_type, build, clips, rows, equal_frames(side), apart=apart)


def _qwen(model_type: str, rows: Any = between_marks, media: Any = patches) -> Family:
    build = getattr(random_models, model_type)
    return Family(model_type, build, RAGGED, rows, media, mrope=True, types=MARKED)


def _onevision(attention: str = "sdpa", seed: int = 0) -> Any:
    return models.llava_onevision(seed, attention=attention)


ALL = (
    _llava("llava_onevision", _onevision, newline_behind),
    _llava("llava_video", random_models.llava_video, newline_per_row, side=56),
    _llava("llava_next_video", random_models.llava_next_video, one_run),
    _llava("video_llava", random_models.video_llava, cls_first, side=24, apart=False),
    _qwen("qwen2_vl"),
    _qwen("qwen2_5_vl", media=timed_patches),
    _qwen("qwen3_vl", rows=timestamps),
    _qwen("qwen3_vl_moe", rows=timestamps),
    Family(
        "internvl",
        random_models.internvl,
        (Clip(3), Clip(5)),
        named_frames,
        pictures,
        apart=False,
        placeholder=IMAGE,
    ),
    Family(
        "gemma3",
        random_models.gemma3,
        (Clip(3), Clip(4)),
        images,
        pictures,
        layers=(2, 4),
        types=("token_type_ids", 1),
        apart=False,
        placeholder=IMAGE,
    ),
)
FAMILIES = {family.model_type: family for family in ALL}
