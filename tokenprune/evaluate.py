"""The evaluation loop: several systems answer the same samples, through Lightning's Trainer.

A system is a pipeline on the model. The full model, the strategy and the `random` control at the strategy's measured
budget are three data loaders over the same samples, so one `predict` runs all of them, sample by sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from transformers import PreTrainedModel

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.flops import Decoder, flops_ratio
from tokenprune.outcome import Outcome, System
from tokenprune.processor import Processor
from tokenprune.quiet import interruptible, quiet
from tokenprune.report import Report
from tokenprune.scores import FamilyScores
from tokenprune.session import attach
from tokenprune.tasks import Sample, Task

# neutral sampling values: a checkpoint's own would only draw a warning that greedy search ignores them
_GREEDY = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50}


@dataclass(frozen=True)
class Batch:
    """Samples and the model inputs made of them."""

    samples: list[Sample]
    inputs: dict[str, Tensor]

    def to(self, device: torch.device) -> Batch:
        return Batch(self.samples, {name: value.to(device) for name, value in self.inputs.items()})


class _Once(Dataset[Sample]):
    """A task's first `size` samples, made once for all systems as far as memory is spared for them."""

    def __init__(self, task: Task, size: int, spare: int = 512 << 20) -> None:
        self._task, self._size, self._spare = task, size, spare
        self._made: dict[int, Sample] = {}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Sample:
        if index in self._made:
            return self._made[index]
        sample = self._task[index]
        if sample.frames.nbytes <= self._spare:
            self._made[index] = sample
            self._spare -= sample.frames.nbytes
        return sample


class Samples(LightningDataModule):
    """A task's first `limit` samples, encoded; one loader per system."""

    def __init__(
        self, task: Task, processor: Processor, model: PreTrainedModel, systems: int, batch_size: int, limit: int | None
    ) -> None:
        super().__init__()
        adapter = adapt(model)
        self.task, self.processor, self.systems, self.batch_size = task, processor, systems, batch_size
        self.size = len(task) if limit is None else min(limit, len(task))
        self._shape = adapter.cells, adapter.separators

    def predict_dataloader(self) -> list[DataLoader[Sample]]:
        chosen = _Once(self.task, self.size)
        return [DataLoader(chosen, batch_size=self.batch_size, collate_fn=self.encode) for _ in range(self.systems)]

    def encode(self, samples: list[Sample]) -> Batch:
        return Batch(samples, self.processor.encode([(s.frames, s.question) for s in samples], *self._shape))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)


class Evaluation(LightningModule):
    """Generates and records: greedy, without gradients, each batch inside its own `attach`."""

    def __init__(
        self,
        model: PreTrainedModel,
        assistant: PreTrainedModel | None,
        processor: Processor,
        task: Task,
        systems: Sequence[System],
        max_new_tokens: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.assistant = model, assistant
        self.processor, self.task, self.systems, self.seed = processor, task, systems, seed
        self.max_new_tokens = max_new_tokens
        self.scores = torch.nn.ModuleList(FamilyScores(task.categories, _exact(model.device)) for _ in systems)
        self.budget = MeanMetric().set_dtype(_exact(model.device))  # layer-average ratio that `own` kept

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        """Appends to the system's outcomes; returns the ids of the samples done."""
        system = self.systems[dataloader_idx]
        if system.pipeline is None:
            keep = min(1.0, float(self.budget.compute()))
            system.pipeline = registry.build("random", {"random.keep": keep, "random.seed": self.seed})
        guide = self.assistant if system.pipeline.allocator is not None else None
        with attach(self.model, system.pipeline, assistant=guide, timed=True) as session:
            ids = self.model.generate(  # pyright: ignore[reportCallIssue]
                **batch.inputs,
                max_new_tokens=self.max_new_tokens,
                **_GREEDY,
                pad_token_id=self.processor.pad,
            )
        texts = self.processor.decode(ids[:, batch.inputs["input_ids"].shape[1] :])
        for row, (sample, text) in enumerate(zip(batch.samples, texts, strict=True)):
            outcome = self._outcome(sample, text, session.report, row, guide)
            system.outcomes.append(outcome)
            if outcome.score is not None:
                self.scores[dataloader_idx].update(outcome.category, outcome.score)  # pyright: ignore[reportCallIssue]
            if system.name == "own":
                _add(self.budget, outcome.report.layer_average_ratio)
        return [sample.id for sample in batch.samples]

    def _outcome(self, sample: Sample, text: str, report: Report, row: int, guide: PreTrainedModel | None) -> Outcome:
        own, score, per_step = report[row], self.task.score(text, sample), "decode_ms_per_token"
        whole = report.time
        share = {name: None if ms is None else ms / len(report) for name, ms in whole.items()}
        decoder, guided_by = (Decoder.of(adapt(model).text_config) for model in (self.model, guide or self.model))
        compressed = flops_ratio(decoder, own.layers, own.full)
        guided = flops_ratio(decoder, own.layers, own.full, guided_by, report.probe_layers)
        return Outcome(
            id=sample.id,
            category=sample.category,
            question=sample.question,
            answer=sample.answer,
            prediction=text,
            score=None if math.isnan(score) else score,
            report=own,
            time={**share, per_step: whole[per_step]},
            flops_ratio=guided,
            guide_flops_ratio=guided - compressed,
        )


def evaluate(
    model: PreTrainedModel,
    processor: Processor,
    task: Task,
    systems: Sequence[System],
    *,
    assistant: PreTrainedModel | None = None,
    batch_size: int = 1,
    limit: int | None = None,
    max_new_tokens: int = 48,
    seed: int = 0,
) -> None:
    """Runs `systems` over the task in the order given; fills in their outcomes, in the task's order, and scores."""
    module = Evaluation(model, assistant, processor, task, systems, max_new_tokens, seed)
    data = Samples(task, processor, model, len(systems), batch_size, limit)
    device = model.device
    with quiet():
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index or 0] if device.type == "cuda" else 1,
            callbacks=[_Bar([f"{n}/{len(systems)} {system.label}" for n, system in enumerate(systems, 1)])],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        with interruptible(trainer):
            trainer.predict(module, datamodule=data, return_predictions=False)
    for system, score in zip(systems, module.scores, strict=True):
        if any(outcome.score is not None for outcome in system.outcomes):
            system.score = score.compute()["macro"]  # pyright: ignore[reportCallIssue]


class _Bar(RichProgressBar):
    """Lightning's bar on stderr, named after the system that runs."""

    def __init__(self, labels: list[str]) -> None:
        super().__init__(leave=True, console_kwargs={"stderr": True})
        self._labels, self._label = labels, ""

    @property
    def predict_description(self) -> str:
        return self._label

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._label = self._labels[dataloader_idx]
        super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)


def _exact(device: torch.device) -> torch.dtype:
    """The most precise numbers the device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def _add(mean: Any, value: float) -> None:
    """Spelled out because the metric forgets its precision for plain numbers once it has been moved."""
    state: Tensor = mean.mean_value
    mean.update(torch.tensor(value, dtype=state.dtype, device=state.device))
