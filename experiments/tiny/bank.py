"""Videos that a resting tower has seen once.

The decoder learns from them three times as fast as from pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from experiments.tiny.data import Batch, Load, Packer, Steps, film
from experiments.tiny.scenarios import ask
from tokenprune.tasks.scenes import Thing

_AT_ONCE = 16  # videos
# number of the bank's first videos in the training stream: no step renders so many
_FIRST = 1 << 16


class Bank(NamedTuple):
    """Axes: n videos, f frames, c cells, d channels of the decoder."""

    tokens: Tensor  # bfloat16 [n f c d]
    cells: Tensor  # int8 [n 3 f c]
    course: Tensor  # int8 [n 3 f c]
    drift: Tensor  # bfloat16 [n f c 2]
    things: list[list[Thing]]

    @classmethod
    def fill(cls, look: Callable[[Tensor], Tensor], seed: int, videos: int, frames: int) -> Bank:
        """`videos` videos through `look`: uint8 [b f h w 3] to float [b f c d]."""
        parts, things = [], []
        for index in tqdm(range(-(-videos // _AT_ONCE)), desc=f"Bank of {frames} frames"):
            filmed = film(seed, _FIRST + index, _AT_ONCE, frames)
            cells, course, drift = filmed.labels
            parts.append(
                (
                    look(filmed.frames).bfloat16(),
                    *(x.transpose(0, 1).to(torch.int8) for x in (cells, course)),
                    drift.bfloat16(),
                )
            )
            things += filmed.things
        columns: list[Any] = [torch.cat(column) for column in zip(*parts, strict=True)]
        return cls(*columns, things)  # pyright: ignore[reportCallIssue]

    def rows(
        self, rows: list[int]
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], list[list[Thing]]]:
        """Tokens, labels and things of some videos."""
        cells, course = (x[rows].transpose(0, 1).long() for x in (self.cells, self.course))
        return (
            self.tokens[rows],
            (cells, course, self.drift[rows].float()),
            [self.things[row] for row in rows],
        )


class Replay(Dataset[Batch]):
    """As `Steps`, but longer videos come from a bank, with questions drawn anew.

    Longer are those of `freeze_from` frames and more.

    Each number of frames has one bank, filled when its first step comes: the tower does not change
    after that.
    """

    def __init__(
        self,
        loads: list[Load],
        tokens: PreTrainedTokenizerFast,
        seed: int,
        *,
        look: Callable[[Tensor], Tensor],
        freeze_from: int,
        videos: int,
    ) -> None:
        self.fresh, self.look = Steps(loads, tokens, seed), look
        self.freeze_from, self.videos = freeze_from, videos
        self.loads, self.seed = loads, seed
        self._packer = Packer(tokens)
        self._bank: tuple[int, Bank] | None = None

    def __len__(self) -> int:
        return len(self.loads)

    def __getitem__(self, index: int) -> Batch:
        load = self.loads[index]
        if load.frames < self.freeze_from:
            return self.fresh[index]
        if self._bank is not None and self._bank[0] != load.frames:
            self._bank = None  # freed before the next is filled
        if self._bank is None or self._bank[0] != load.frames:
            self._bank = load.frames, Bank.fill(self.look, self.seed, self.videos, load.frames)
        choice = random.Random(f"{self.seed}/{index}")
        bank = self._bank[1]
        tokens, labels, things = bank.rows(choice.sample(range(len(bank.things)), load.videos))
        return self._packer.batch(
            tokens, labels, [ask(who, load.frames, load.questions, choice) for who in things]
        )
