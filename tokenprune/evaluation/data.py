"""A task's samples as batches for the model: decoded and encoded, in worker processes where that
pays.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from tokenprune.evaluation.batches import IDLE, Batch, Encoder, Failed, Readable
from tokenprune.evaluation.fitting import BatchSize
from tokenprune.loading.processor import Processor
from tokenprune.tasks import Sample


class Samples(LightningDataModule):
    """The samples `pending`, a share of them for every process: each sample goes to exactly one of
    them.
    """

    def __init__(
        self,
        samples: Readable,
        pending: Sequence[int],
        processor: Processor,
        *,
        size: BatchSize,
        workers: int,
        context: int | None = None,
    ) -> None:
        super().__init__()
        self.samples, self.pending = samples, pending
        self.size, self.workers = size, workers
        self.encode = Encoder(processor, size, context)

    def predict_dataloader(self) -> DataLoader[tuple[int, Sample] | Failed | None]:
        trainer = self.trainer
        assert trainer is not None
        return DataLoader(
            # it has no length of its own: the sampler knows
            self.samples,  # pyright: ignore[reportArgumentType]
            sampler=self.pending[trainer.global_rank :: trainer.world_size] or [IDLE],
            batch_size=self.size.now,
            collate_fn=self.encode,
            num_workers=self.workers,
            pin_memory=self.workers > 0 and trainer.strategy.root_device.type == "cuda",
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device)
