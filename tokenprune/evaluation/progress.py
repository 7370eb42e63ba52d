"""Where a long evaluation stands: Lightning's bar, with the score so far."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from tokenprune.evaluation.category_scores import CategoryScores


class Bar(RichProgressBar):
    """On stderr, named after the system that runs: batches done, time so far and time left."""

    def __init__(self) -> None:
        super().__init__(leave=True, console_kwargs={"stderr": True})
        self.label = ""
        self.scores: CategoryScores | None = None

    @property
    def predict_description(self) -> str:
        return self.label

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """On one line of 80 characters: Lightning's own break where a name is long."""
        return [
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        ]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if (
            self.progress is not None
            and self.predict_progress_bar_id is not None
            and self.scores is not None
        ):
            text = f"{self.label}{_so_far(self.scores)}"
            self.progress.update(self.predict_progress_bar_id, description=text)


def _so_far(scores: CategoryScores) -> str:
    """` 71.2 ±4.0`: macro average of this process's samples and half its 95 % interval by the
    normal approximation.
    """
    if not scores.update_called:
        return ""
    value, error = scores.compute()["score"], scores.standard_error()
    return f" {100 * value:.1f}" + ("" if math.isnan(error) else f" ±{196 * error:.1f}")
