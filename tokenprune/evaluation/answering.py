"""One system answers its samples, as Lightning runs it: each batch is generated and recorded."""

from __future__ import annotations

import os
import signal
import threading

import torch
from lightning.pytorch import LightningModule
from transformers import PreTrainedModel

from tokenprune.adapters import adapt
from tokenprune.evaluation.asking import Asking
from tokenprune.evaluation.batches import Batch
from tokenprune.evaluation.category_scores import CategoryScores
from tokenprune.loading.spread import is_placed
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal
from tokenprune.storage import first_process


class Answering(LightningModule):
    """Greedy, without gradients; every answer is in the journal when its batch ends."""

    model: PreTrainedModel
    guide: PreTrainedModel | None

    def __init__(self, asking: Asking, journal: Journal) -> None:
        super().__init__()
        self._hold("model", asking.model)
        self._hold("guide", asking.guide)
        self.asking, self.journal = asking, journal
        self.on_sigterm = signal.getsignal(signal.SIGTERM)
        self.parent = os.getppid()
        self.scores = CategoryScores(
            asking.task.categories,
            torch.float32 if adapt(asking.model).device.type == "mps" else torch.float64,
            sync_on_compute=False,  # each process shows its own
        )
        for answer in journal.read(asking.role).values():
            self._count(answer)

    def _hold(self, name: str, model: PreTrainedModel | None) -> None:
        """Lightning moves every model it knows of, so it does not know of one on several
        devices.
        """
        if model is not None and is_placed(model):
            vars(self)[name] = model
        else:
            setattr(self, name, model)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> int:
        """Records what the model makes of a batch; returns how many samples that were."""
        if os.getppid() != self.parent and not first_process():
            raise RuntimeError(
                "the process that started this one is gone, and with it whoever gathers the answers"
            )
        for answer in self.asking.answers(batch):
            self.journal.append(self.asking.role, answer, self.trainer.global_rank)
            self._count(answer)
        return len(batch)

    def on_predict_start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning has put itself before it, and would wait for all processes inside the
            # handler
            signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_predict_end(self) -> None:
        self.trainer.strategy.barrier()  # then everything is in the journal

    def _count(self, answer: Answer) -> None:
        if answer.score is not None:
            self.scores.update(answer.category, answer.score)  # pyright: ignore[reportCallIssue]
