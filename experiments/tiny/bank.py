"""Videos that a resting tower has seen once.

What it makes of a frame, before the projector, is kept; the questions are drawn anew at every step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from experiments.tiny.data import Batch, Packer, Videos, film, question
from experiments.tiny.labels import Labels
from experiments.tiny.recipe import Recipe
from tokenprune.tasks.scenes import Thing

_AT_ONCE = 16  # videos
# number of the bank's first videos in the training stream: no step renders so many
_FIRST = 1 << 20


class _Films(Dataset[Videos]):
    """Videos of one length, `_AT_ONCE` at a time, for workers to render."""

    def __init__(self, seed: int, frames: int) -> None:
        self.seed, self.frames = seed, frames

    def __getitem__(self, index: int) -> Videos:
        return film(self.seed, _FIRST + index, _AT_ONCE, self.frames)


class Shelf(NamedTuple):
    """Videos of one length: bfloat16 [n f patches d], and what they show."""

    seen: Tensor
    labels: Labels


class Bank:
    """Videos of every length of a recipe."""

    def __init__(self) -> None:
        self.shelves: dict[int, Shelf] = {}
        self.things: dict[int, list[list[Thing]]] = {}

    def fill(
        self,
        see: Callable[[Tensor], Tensor],
        recipe: Recipe,
        videos: int,
        device: torch.device,
        workers: int,
    ) -> None:
        """As many videos as `videos` of 16 frames; `see`: uint8 [b f h w 3] to [b f patches d]."""
        for frames, number in recipe.shelves(videos).items():
            parts = range(-(-number // _AT_ONCE))
            films = DataLoader(
                _Films(recipe.seed, frames), None, sampler=parts, num_workers=workers
            )
            progress = tqdm(films, desc=f"Bank of {frames} frames", total=len(parts), mininterval=9)
            shelf, self.things[frames] = _store(progress, see, len(parts) * _AT_ONCE, device)
            self.shelves[frames] = shelf

    def show(self, batch: Batch) -> Batch:
        """The batch with the videos that it names by number."""
        if batch.frames.ndim > 1:
            return batch
        shelf = self.shelves[batch.length]
        labels = Labels(*(column[batch.frames] for column in shelf.labels))
        return batch._replace(frames=shelf.seen[batch.frames], labels=labels)


def _store(
    films: Iterable[Videos], see: Callable[[Tensor], Tensor], number: int, device: torch.device
) -> tuple[Shelf, list[list[Thing]]]:
    """What the tower sees in `number` videos, and who plays in them."""
    columns: list[Tensor] = []
    things: list[list[Thing]] = []
    for videos in films:
        begin = len(things)
        things += videos.things
        part = [see(videos.frames.to(device)), *(x.to(device) for x in videos.labels)]
        columns = columns or [x.new_empty(number, *x.shape[1:]) for x in part]
        for column, rows in zip(columns, part, strict=True):
            column[begin : len(things)] = rows
    return Shelf(columns[0], Labels(*columns[1:])), things


class Revisits(Dataset[Batch]):
    """Batch `i` of a recipe, about videos of a bank, which it names by number."""

    def __init__(
        self, recipe: Recipe, things: dict[int, list[list[Thing]]], tokens: PreTrainedTokenizerFast
    ) -> None:
        self.recipe, self.things, self._packer = recipe, things, Packer(tokens)

    def __getitem__(self, index: int) -> Batch:
        load = self.recipe.load(index)
        choice = random.Random(f"{self.recipe.seed}/{index}")
        here = self.things[load.frames]
        rows = choice.sample(range(len(here)), load.videos)
        questions = question([here[row] for row in rows], load, choice)
        none = Labels(*torch.empty(3, 0))
        return self._packer.batch(torch.tensor(rows), none, questions, load, choice.getrandbits(63))
