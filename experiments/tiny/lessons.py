"""Where a training's batches come from: rendered anew, or out of a bank if the tower rests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, cast

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from experiments.tiny.bank import Bank, Revisits
from experiments.tiny.data import Batch, Steps
from experiments.tiny.learner import Learner
from experiments.tiny.recipe import Recipe
from experiments.tiny.text import tokenizer

_VALIDATION = Recipe({16: 1.0}, 12, 24, drop=0.0, opening=0, seed=1 << 20)
# of the training split: the test split is for the final numbers only


class Onwards(Sampler[int]):
    """Counts steps, without end, from where the training stands."""

    def __init__(self, learner: lightning.LightningModule) -> None:
        self.learner = learner

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.learner.global_step)


class Lessons(lightning.LightningDataModule):
    """Batch `i` is a pure function of the recipe and `i`: a resumed training sees what an
    uninterrupted one would have seen.

    `bank` is its size in videos of 16 frames, 0 for none.
    """

    def __init__(self, recipe: Recipe, bank: int, checks: int, workers: int | None) -> None:
        super().__init__()
        self.recipe, self.size, self.checks, self.workers = recipe, bank, checks, workers
        self.bank = Bank()

    @property
    def learner(self) -> Learner:
        return cast(Learner, cast(lightning.Trainer, self.trainer).lightning_module)

    @torch.no_grad()
    def see(self, frames: Tensor) -> Tensor:
        """What the resting tower makes of frames."""
        with cast(lightning.Trainer, self.trainer).precision_plugin.forward_context():
            return self.learner.see(frames).bfloat16()

    def train_dataloader(self) -> DataLoader[Batch]:
        cores = os.cpu_count() or 1
        tokens, many = tokenizer(), max(1, cores - 1)
        workers = many if self.workers is None else self.workers
        steps = Steps(self.recipe, tokens)
        if self.size:
            device = self.learner.device
            self.bank.fill(self.see, self.recipe, self.size, device, workers)
            steps = Revisits(self.recipe, self.bank.things, tokens)
            workers = 0 if device.type == "cpu" else workers  # questions alone are quickly made
        return _loader(steps, Onwards(self.learner), workers, self.learner.device)

    def val_dataloader(self) -> DataLoader[Batch]:
        steps = Steps(_VALIDATION, tokenizer())
        batches = [steps[index] for index in range(self.checks)]
        if self.size:
            device = self.learner.device
            batches = [b._replace(frames=self.see(b.frames.to(device)).cpu()) for b in batches]
        return DataLoader(cast(Any, batches), batch_size=None)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return self.bank.show(batch)


def _loader(steps: Any, onwards: Onwards, workers: int, device: torch.device) -> DataLoader[Batch]:
    return DataLoader(
        steps,
        batch_size=None,
        sampler=onwards,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
