"""Training batches: many questions packed behind one video, each seen exactly as in evaluation.

Axes: b videos, f frames, c cells of a frame (36), t packed text tokens, s = prefix + t the whole
sequence. The prefix is `<|im_start|>user `, the video's tokens and the newline. Every question
continues it, at the position where it would stand alone, and sees the prefix and itself only:
`Batch.mask` and `Batch.positions` say so.
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

from experiments.tiny.scenarios import Asked, ask, commission
from experiments.tiny.text import END, prompt_end
from tokenprune.tasks.questions import CATEGORIES
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import COLOURS, CROWD, SHAPES, SIZE, Scenes, Thing
from tokenprune.tasks.tinyvqa import generator

CELL = 16  # pixels of a pooled cell, both ways
_IGNORE = -100
_HIDDEN = -1e4  # added to a score, it leaves nothing of the weight
# covered shares from which a cell shows an object, and below which it shows none
_SHOWN, _BARE = 0.12, 0.03


class Batch(NamedTuple):
    """What one step learns from."""

    # uint8 [b f h w 3]; from a bank: bfloat16 [b f c d], what a resting tower makes of them
    frames: Tensor
    # int64 [3 b f c]: index of colour, shape, smallness; one past the last word: "none", -100
    # unclear
    cells: Tensor
    # int64 [3 b f c]: direction so far, frame number, whether the colour has changed; -100 unclear
    course: Tensor
    # float [b f c 2]: how far its object has come since it was first seen, in thirds of a frame
    drift: Tensor
    text: Tensor  # int64 [b t], token ids, padded on the right
    segment: Tensor  # int64 [b t], number of the question from 0; -1 on padding
    offset: Tensor  # int64 [b t], place within the question
    target: Tensor  # int64 [b t], token to be predicted at this place, -100 where none is asked
    weight: Tensor  # float [b t], of a target in the loss
    family: Tensor  # int64 [b q], index into CATEGORIES, -1 past a video's last question

    def mask(self, prefix: int) -> Tensor:
        """Who sees whom, as a bias: bfloat16 [b 1 s s].

        Padding sees the prefix, so that no row is empty.
        """
        text = self.text.shape[1]
        own = (self.segment[:, :, None] == self.segment[:, None]) & torch.ones(
            text, text
        ).tril().bool()
        mask = (
            torch.ones(prefix + text, prefix + text)
            .tril()
            .bool()
            .expand(len(own), 1, -1, -1)
            .clone()
        )
        mask[:, 0, prefix:, prefix:] = own
        return torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill_(~mask, _HIDDEN)

    def positions(self, prefix: int) -> Tensor:
        """Positions int64 [b s]: every question starts right after the prefix."""
        return torch.cat([torch.arange(prefix).expand(len(self.text), -1), prefix + self.offset], 1)


Labels = tuple[Tensor, Tensor, Tensor]  # `Batch.cells`, `Batch.course`, `Batch.drift`


def cell_labels(scenes: Scenes, owner: Tensor) -> Labels:
    """What each cell shows, by the object on top of every pixel: `cells`, `course` and `drift`.

    `owner` is int64 [b f h w].
    """
    layers = one_hot(owner.flatten(0, 1) + 1, CROWD + 1)[..., 1:].permute(0, 3, 1, 2).float()
    share, thing = avg_pool2d(layers, CELL).flatten(2).max(1)  # [b*f c]
    share, thing = (x.view(*owner.shape[:2], -1) for x in (share, thing))

    def shown(label: Tensor) -> Tensor:
        """`label`, [b o] or [b f o], of the thing each cell shows."""
        return (label if label.ndim == 3 else label[:, None].expand(-1, scenes.frames, -1)).gather(
            2, thing
        )

    words = []
    small = shown(scenes.small)
    for label, none in (
        (scenes.colour, len(COLOURS)),
        (scenes.shape, len(SHAPES)),
        ((~scenes.small).long(), 1),
    ):
        words.append(
            shown(label).masked_fill(share < _SHOWN, _IGNORE).masked_fill(share < _BARE, none)
        )
    words[1].masked_fill_(small & (share >= _BARE), _IGNORE)  # too small to tell

    seen = shown(scenes.visible.long().cumsum(1))  # frames that have shown it, this one included
    clear = share >= _SHOWN
    way = shown(scenes.direction).masked_fill(
        ~clear | (seen <= max(1, scenes.frames // 4)), _IGNORE
    )
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
        self._families = list(CATEGORIES)

    def row(self, questions: list[Asked]) -> dict[str, Tensor]:
        """Text, segment, offset, target and weight of one video's questions, [t] each."""
        text, segment, offset, target = [], [], [], []
        weight: list[float] = []
        for number, (_, question, weighs) in enumerate(questions):
            prompt, answer = self._ids(prompt_end(question.text)), self._ids(question.answer + END)
            text += prompt + answer[:-1]
            length = len(prompt) + len(answer) - 1
            segment += [number] * length
            offset += range(length)
            target += [_IGNORE] * (len(prompt) - 1) + answer
            # A description of 30 words weighs as much as 5 words: neither lost nor all that is
            # learnt.
            weight += [0.0] * (len(prompt) - 1) + [weighs * len(answer) ** -0.5] * len(answer)
        columns = {"text": text, "segment": segment, "offset": offset, "target": target}
        return {n: torch.tensor(c, dtype=torch.int64) for n, c in columns.items()} | {
            "weight": torch.tensor(weight)
        }

    def batch(self, frames: Tensor, labels: Labels, questions: list[list[Asked]]) -> Batch:
        """One batch of the questions asked about each video."""
        rows = [self.row(asked) for asked in questions]
        fill = {"text": 0, "segment": -1, "offset": 0, "target": _IGNORE, "weight": 0.0}
        columns = {
            n: pad_sequence([row[n] for row in rows], batch_first=True, padding_value=fill[n])
            for n in fill
        }
        families = [
            torch.tensor([self._families.index(asked.family) for asked in one]) for one in questions
        ]
        family = pad_sequence(families, batch_first=True, padding_value=-1)
        return Batch(frames, *labels, **columns, family=family)


@dataclass(frozen=True)
class Load:
    """The size of a step's batch."""

    frames: int
    videos: int
    questions: int


class Videos(NamedTuple):
    """Rendered videos, what their cells show, and who plays in them."""

    frames: Tensor
    labels: Labels
    things: list[list[Thing]]


def film(seed: int, index: int, videos: int, frames: int) -> Videos:
    """Videos number `index` of the training stream `seed`: a pure function of its arguments."""
    stream = generator("train", seed, index, frames)
    scenes = commission(stream, videos, frames, random.Random(stream.initial_seed()))
    pixels, owner = render(stream, scenes)
    return Videos(pixels, cell_labels(scenes, owner), scenes.things())


class Steps(Dataset[Batch]):
    """Batch `i` of the training stream `seed`."""

    def __init__(self, loads: list[Load], tokens: PreTrainedTokenizerFast, seed: int) -> None:
        self.loads, self.seed = loads, seed
        self._packer = Packer(tokens)

    def __len__(self) -> int:
        return len(self.loads)

    def __getitem__(self, index: int) -> Batch:
        load = self.loads[index]
        videos = film(self.seed, index, load.videos, load.frames)
        choice = random.Random(f"{self.seed}/{index}")
        questions = [ask(things, load.frames, load.questions, choice) for things in videos.things]
        return self._packer.batch(videos.frames, videos.labels, questions)
