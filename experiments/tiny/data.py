"""Training batches: many questions packed behind one video, such that each is seen exactly as in evaluation.

Axes: b videos, f frames, c cells of a frame (36), t packed text tokens, s = prefix + t the whole sequence. The
prefix is `<|im_start|>user `, the video's tokens and the newline. Every question continues it, at the position where it
would stand alone, and sees the prefix and itself only: `Batch.mask` and `Batch.positions` say so.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from experiments.tiny.text import END, prompt_end
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import COLOURS, CROWD, SHAPES, SIZE, Scenes, draw
from tokenprune.tasks.tinyvqa import FAMILIES, ask, generator

CELL = 16  # pixels of a pooled cell, both ways
_IGNORE = -100
_EMPHASIS = {
    "direction": 2.0,
    "order": 1.5,
    "state": 1.5,
    "when": 1.5,
    "describe": 0.5,
}  # learnt last: asked more often
_SHOWN, _BARE = 0.12, 0.03  # covered shares from which a cell shows an object, and below which it shows none


class Batch(NamedTuple):
    """What one step learns from."""

    frames: Tensor  # uint8 [b f h w 3]
    cells: Tensor  # int64 [3 b f c]: index of colour, shape, smallness; one past the last word: "none", -100 unclear
    course: Tensor  # int64 [3 b f c]: direction so far, frame number, whether the colour has changed; -100 unclear
    drift: Tensor  # float [b f c 2]: how far its object has come since it was first seen, in thirds of a frame
    text: Tensor  # int64 [b t], token ids, padded on the right
    segment: Tensor  # int64 [b t], number of the question from 0; -1 on padding
    offset: Tensor  # int64 [b t], place within the question
    target: Tensor  # int64 [b t], token to be predicted at this place, -100 where none is asked
    family: Tensor  # int64 [b q], index into FAMILIES

    def mask(self, prefix: int) -> Tensor:
        """Who sees whom: bool [b 1 s s]. Padding sees the prefix, so that no row is empty."""
        text = self.text.shape[1]
        own = (self.segment[:, :, None] == self.segment[:, None]) & torch.ones(text, text).tril().bool()
        mask = torch.ones(prefix + text, prefix + text).tril().bool().expand(len(own), 1, -1, -1).clone()
        mask[:, 0, prefix:, prefix:] = own
        return mask

    def positions(self, prefix: int) -> Tensor:
        """Positions int64 [b s]: every question starts right after the prefix."""
        return torch.cat([torch.arange(prefix).expand(len(self.text), -1), prefix + self.offset], 1)


def cell_labels(scenes: Scenes, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each cell shows, by the object on top of every pixel (int64 [b f h w]): `cells`, `course` and `drift`."""
    layers = one_hot(owner.flatten(0, 1) + 1, CROWD + 1)[..., 1:].permute(0, 3, 1, 2).float()
    share, thing = avg_pool2d(layers, CELL).flatten(2).max(1)  # [b*f c]
    share, thing = (x.view(*owner.shape[:2], -1) for x in (share, thing))

    def shown(label: Tensor) -> Tensor:
        """`label`, [b o] or [b f o], of the thing each cell shows."""
        return (label if label.ndim == 3 else label[:, None].expand(-1, scenes.frames, -1)).gather(2, thing)

    words = []
    small = shown(scenes.small)
    for label, none in ((scenes.colour, len(COLOURS)), (scenes.shape, len(SHAPES)), ((~scenes.small).long(), 1)):
        words.append(shown(label).masked_fill(share < _SHOWN, _IGNORE).masked_fill(share < _BARE, none))
    words[1].masked_fill_(small & (share >= _BARE), _IGNORE)  # too small to tell

    seen = shown(scenes.visible.long().cumsum(1))  # frames that have shown it, this one included
    clear = share >= _SHOWN
    way = shown(scenes.direction).masked_fill(~clear | (seen <= max(1, scenes.frames // 4)), _IGNORE)
    clock = torch.arange(scenes.frames)[:, None].expand_as(way).masked_fill(~clear, _IGNORE)
    turned = shown((scenes.colour != scenes.colour[:, :1]).long()).masked_fill(~clear, _IGNORE)
    first = scenes.visible.int().argmax(1)[:, None, :, None].expand(-1, 1, -1, 2)
    come = (scenes.centre - scenes.centre.gather(1, first)) * (3 / SIZE)
    drift = come.gather(2, thing.unsqueeze(-1).expand(-1, -1, -1, 2))
    return torch.stack(words), torch.stack([way, clock, turned]), drift


class Packer:
    """Turns questions into packed token rows."""

    def __init__(self, tokens: PreTrainedTokenizerFast) -> None:
        self._ids = lru_cache(None)(lambda text: tokens(text)["input_ids"])
        self._families = list(FAMILIES)

    def row(self, questions: list) -> dict[str, Tensor]:
        """Text, segment, offset and target of one video's questions, int64 [t] each."""
        text, segment, offset, target = [], [], [], []
        for number, (_, question) in enumerate(questions):
            prompt, answer = self._ids(prompt_end(question.text)), self._ids(question.answer + END)
            text += prompt + answer[:-1]
            length = len(prompt) + len(answer) - 1
            segment += [number] * length
            offset += range(length)
            target += [_IGNORE] * (len(prompt) - 1) + answer
        columns = {"text": text, "segment": segment, "offset": offset, "target": target}
        return {name: torch.tensor(column, dtype=torch.int64) for name, column in columns.items()}

    def batch(self, frames: Tensor, labels: tuple[Tensor, Tensor, Tensor], questions: list[list]) -> Batch:
        """One batch of the questions asked about each video."""
        rows = [self.row(asked) for asked in questions]
        fill = {"text": 0, "segment": -1, "offset": 0, "target": _IGNORE}
        columns = {n: pad_sequence([row[n] for row in rows], batch_first=True, padding_value=fill[n]) for n in fill}
        family = torch.tensor([[self._families.index(name) for name, _ in asked] for asked in questions])
        cells, course, drift = labels
        return Batch(frames=frames, cells=cells, course=course, drift=drift, family=family, **columns)


@dataclass(frozen=True)
class Load:
    """The size of a step's batch."""

    frames: int
    videos: int
    questions: int


class Steps(Dataset[Batch]):
    """Batch number `i` of the training stream `seed`: a pure function of both, wherever it is made."""

    def __init__(self, loads: list[Load], tokens: PreTrainedTokenizerFast, seed: int) -> None:
        self.loads, self.seed = loads, seed
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self.loads)

    def __getitem__(self, index: int) -> Batch:
        if not hasattr(self, "_packer"):
            self._packer = Packer(self._tokens)  # made where it is used: its cache does not travel to workers
        load = self.loads[index]
        stream = generator("train", self.seed, index, load.frames)
        scenes = draw(stream, load.videos, load.frames)
        frames, owner = render(stream, scenes)
        choice = random.Random(stream.initial_seed())
        questions = [ask(things, load.frames, load.questions, choice, _EMPHASIS) for things in scenes.things()]
        return self._packer.batch(frames, cell_labels(scenes, owner), questions)
