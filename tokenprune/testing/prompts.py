"""Video prompts for a model of which no more than its preparation of videos is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.adapters.preparation import Preparation, Shown
from tokenprune.loading.processor import Processor

Inputs = dict[str, Tensor]
QUESTIONS = ("What is moving?", "Which of the things in this video moves first, and where to?")


class Prompts(NamedTuple):
    """A padded batch, and its samples alone, without padding."""

    batch: Inputs
    alone: tuple[Inputs, ...]


@dataclass(frozen=True)
class Writer:
    """Writes prompts of random words and random videos.

    Args:
        preparation: how the family takes videos
        placeholder: token id that stands for a row of a video
        words: token ids that mean nothing to the family
        pad: token id of padding
    """

    preparation: Preparation
    placeholder: int
    words: Sequence[int]
    pad: int = 0

    def prompts(
        self,
        texts: Sequence[tuple[int, int]] = ((3, 5), (1, 9)),
        frames: int = 6,
        side: int = 32,
        seed: int = 0,
    ) -> Prompts:
        """One sample for each pair of `texts`: so many words, a video, so many words."""
        generator = torch.Generator().manual_seed(seed)
        rows: list[Tensor] = []
        shown: list[Shown] = []
        for before, after in texts:
            clip = torch.randint(256, (frames, side, side, 3), generator=generator)
            one = self.preparation.prepared(clip.to(torch.uint8))
            shown.append(one)
            rows.append(self._ids(one, before, after, generator))
        alone = [self._inputs([row], [one]) for row, one in zip(rows, shown, strict=True)]
        return Prompts(self._inputs(rows, shown), tuple(alone))

    def _ids(
        self, one: Shown, before: int, after: int, generator: torch.Generator
    ) -> Int[Tensor, "s"]:
        """What the family writes for a video, each piece of text as one word, between words."""
        written = self.preparation.written(one.video, one.times)
        pieces = [piece for marker in written for piece in marker]
        parts = [
            torch.full((piece,), self.placeholder)
            if isinstance(piece, int)
            else self._words(1, generator)
            for piece in pieces
        ]
        return torch.cat([self._words(before, generator), *parts, self._words(after, generator)])

    def _words(self, number: int, generator: torch.Generator) -> Int[Tensor, "s"]:
        chosen = torch.randint(len(self.words), (number,), generator=generator)
        return torch.tensor(self.words)[chosen]

    def _inputs(self, rows: Sequence[Tensor], shown: Sequence[Shown]) -> Inputs:
        """A batch padded on the left, as `Processor.encode` makes it."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, longest - len(row) :] = row
            mask[number, longest - len(row) :] = 1
        made = {"input_ids": ids, "attention_mask": mask}
        if self.preparation.types is not None:
            name, kind = self.preparation.types
            made[name] = kind * (ids == self.placeholder).long()
        return made | self.preparation.tensors(shown)


def asked(processor: Processor, frames: int = 6, side: int = 32, seed: int = 0) -> Prompts:
    """Questions about random videos, in a checkpoint's own words."""
    generator = torch.Generator().manual_seed(seed)
    shape = (frames, side, side, 3)
    clips = [torch.randint(256, shape, generator=generator).to(torch.uint8) for _ in QUESTIONS]
    samples: Any = list(zip(clips, QUESTIONS, strict=True))
    return Prompts(processor.encode(samples), tuple(processor.encode([one]) for one in samples))
