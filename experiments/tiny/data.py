"""Training batches: many questions packed behind one video, each seen exactly as in evaluation.

Axes: b videos, f frames, k visual tokens that stay, t packed text tokens. The prefix is
`<|im_start|>user `, the video's tokens and the newline. Every question continues it, at the
position where it would stand alone, and sees the prefix and itself only: `Batch.bias` and
`Batch.positions` say so.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from experiments.tiny.labels import UNCLEAR, Labels, cell_labels
from experiments.tiny.recipe import Load, Recipe, kept
from experiments.tiny.scenarios import Asked, ask, commission
from experiments.tiny.text import END, PROMPT_START, prompt_end
from tokenprune.tasks.questions import CATEGORIES
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import Thing
from tokenprune.tasks.tinyvqa import generator

_HIDDEN = -1e4  # added to a score, it leaves nothing of the weight
_WHOLE = 16  # sequences are multiples of it, as fused kernels like their biases
_FILL = {"text": 0, "segment": -1, "offset": 0, "target": UNCLEAR, "weight": 0.0}


class Batch(NamedTuple):
    """What one step learns from."""

    length: int  # frames of each video
    # uint8 [b f h w 3], or what a resting tower makes of them: bfloat16 [b f patches d]; int64 [b]
    # numbers of videos that are in a bank, without labels
    frames: Tensor
    labels: Labels
    kept: Tensor  # int64 [b k], numbers of the visual tokens that stay
    text: Tensor  # int64 [b t], token ids, padded on the right
    segment: Tensor  # int64 [b t], number of the question from 0; -1 on padding
    offset: Tensor  # int64 [b t], place within the question
    target: Tensor  # int64 [b t], token to be predicted at this place, -100 where none is asked
    weight: Tensor  # float [b t], of a target in the loss
    family: Tensor  # int64 [b q], index into CATEGORIES, -1 past a video's last question

    def bias(self, prefix: int) -> Tensor:
        """Whom the text sees, as a bias on its scores: bfloat16 [b 1 t prefix+t].

        Padding sees the prefix and what padding came before.
        """
        length = self.text.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=self.text.device).tril()
        own = earlier & (self.segment[:, :, None] == self.segment[:, None])
        bias = torch.zeros(own.shape, dtype=torch.bfloat16, device=own.device)
        return pad(bias.masked_fill_(~own, _HIDDEN), (prefix, 0)).unsqueeze(1)

    def positions(self, prefix: int) -> Tensor:
        """Positions int64 [b prefix+t]: every question starts right after the prefix."""
        before = torch.arange(prefix, device=self.offset.device).expand(len(self.offset), -1)
        return torch.cat([before, prefix + self.offset], 1)


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
            target += [UNCLEAR] * (len(prompt) - 1) + answer
            # A description of 30 words weighs as much as 5 words: neither lost nor all that is
            # learnt.
            weight += [0.0] * (len(prompt) - 1) + [weighs * len(answer) ** -0.5] * len(answer)
        columns = {"text": text, "segment": segment, "offset": offset, "target": target}
        return {n: torch.tensor(c, dtype=torch.int64) for n, c in columns.items()} | {
            "weight": torch.tensor(weight)
        }

    def batch(
        self,
        frames: Tensor,
        labels: Labels,
        questions: list[list[Asked]],
        load: Load,
        seed: int,
    ) -> Batch:
        """The questions asked about each video of `load`; `seed` draws which tokens stay."""
        stay = kept(load, seed)
        rows = [self.row(asked) for asked in questions]
        columns = {
            n: pad_sequence([row[n] for row in rows], batch_first=True, padding_value=fill)
            for n, fill in _FILL.items()
        }
        if load.questions:
            prefix = len(self._ids(PROMPT_START)) + stay.shape[1] + 1
            missing = -(prefix + columns["text"].shape[1]) % _WHOLE
            columns = {n: pad(x, (0, missing), value=_FILL[n]) for n, x in columns.items()}
        families = [
            torch.tensor([self._families.index(asked.family) for asked in one], dtype=torch.int64)
            for one in questions
        ]
        family = pad_sequence(families, batch_first=True, padding_value=-1)
        return Batch(load.frames, frames, labels, stay, **columns, family=family)


class Videos(NamedTuple):
    """Rendered videos, uint8 [b f h w 3], what their cells show, and who plays in them."""

    frames: Tensor
    labels: Labels
    things: list[list[Thing]]


def film(seed: int, index: int, videos: int, frames: int) -> Videos:
    """Videos number `index` of the training stream `seed`: a pure function of its arguments."""
    stream = generator("train", seed, index, frames)
    scenes = commission(stream, videos, frames, random.Random(stream.initial_seed()))
    pixels, owner = render(stream, scenes)
    return Videos(pixels, cell_labels(scenes, owner), scenes.things())


def question(who: list[list[Thing]], load: Load, choice: random.Random) -> list[list[Asked]]:
    """What is asked about each video."""
    return [ask(things, load.frames, load.questions, choice) for things in who]


class Steps(Dataset[Batch]):
    """Batch `i` of a recipe, rendered anew."""

    def __init__(self, recipe: Recipe, tokens: PreTrainedTokenizerFast) -> None:
        self.recipe, self._packer = recipe, Packer(tokens)

    def __getitem__(self, index: int) -> Batch:
        load = self.recipe.load(index)
        choice = random.Random(f"{self.recipe.seed}/{index}")
        videos = film(self.recipe.seed, index, load.videos, load.frames)
        questions = question(videos.things, load, choice)
        return self._packer.batch(
            videos.frames, videos.labels, questions, load, choice.getrandbits(63)
        )
