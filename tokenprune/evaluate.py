"""The evaluation loop: several systems answer the same samples, through Lightning's Trainer.

A system is a pipeline on the model. The full model, the strategy and the `random` control at the strategy's measured
budget are three data loaders over the same samples, so one `predict` runs all of them, sample by sample.
"""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rich
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from transformers import PreTrainedModel

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.flops import Decoder, flops_ratio
from tokenprune.processor import Processor
from tokenprune.report import SampleReport
from tokenprune.session import attach
from tokenprune.strategy import Pipeline
from tokenprune.tasks import Sample, Task


@dataclass(frozen=True)
class Outcome:
    """What one system made of one sample."""

    id: str
    category: str
    question: str
    answer: str
    prediction: str
    score: float | None  # None where nobody knows the answer
    report: SampleReport
    time: dict[str, float | None]  # milliseconds; a batch's share, but for decode_ms_per_token
    flops_ratio: float


@dataclass
class System:
    """A pipeline under evaluation and its outcomes; a control without a pipeline gets one from what `own` kept."""

    name: str
    label: str
    pipeline: Pipeline | None
    outcomes: list[Outcome] = field(default_factory=list)
    score: float | None = None


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
        self.scores = torch.nn.ModuleList(_mean(model.device) for _ in systems)
        self.budget = _mean(model.device)  # layer-average ratio that `own` kept

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        system = self.systems[dataloader_idx]
        if system.pipeline is None:
            keep = min(1.0, float(self.budget.compute()))
            system.pipeline = registry.build("random", {"random.keep": keep, "random.seed": self.seed})
        guide = self.assistant if system.pipeline.allocator is not None else None
        with attach(self.model, system.pipeline, assistant=guide, timed=True) as session:
            ids = self.model.generate(  # pyright: ignore[reportCallIssue]
                **batch.inputs,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.processor.pad,
            )
        texts = self.processor.decode(ids[:, batch.inputs["input_ids"].shape[1] :])
        decoder = Decoder.of(adapt(self.model).text_config)
        guided_by = decoder if guide is None else Decoder.of(adapt(guide).text_config)
        for row, (sample, text) in enumerate(zip(batch.samples, texts, strict=True)):
            report, share = session.report[row], len(batch.samples)
            score = self.task.score(text, sample)
            time = {
                k: v if v is None or k == "decode_ms_per_token" else v / share for k, v in session.report.time.items()
            }
            flops = flops_ratio(decoder, report.layers, report.full, guided_by, session.report.probe_layers)
            outcome = Outcome(
                sample.id, sample.category, sample.question, sample.answer, text,
                None if math.isnan(score) else score, report, time, flops,
            )  # fmt: skip
            system.outcomes.append(outcome)
            if outcome.score is not None:
                self.scores[dataloader_idx].update(outcome.score)  # pyright: ignore[reportCallIssue]
            if system.name == "own":
                self.budget.update(report.layer_average_ratio)


def evaluate(
    model: PreTrainedModel,
    processor: Processor,
    task: Task,
    systems: Sequence[System],
    *,
    assistant: PreTrainedModel | None = None,
    batch_size: int = 1,
    limit: int | None = None,
    max_new_tokens: int = 32,
    seed: int = 0,
) -> None:
    """Runs `systems` over the task in the order given and fills their outcomes, samples in the task's order."""
    module = Evaluation(model, assistant, processor, task, systems, max_new_tokens, seed)
    data = Samples(task, processor, model, len(systems), batch_size, limit)
    device = model.device
    with _quiet():
        trainer = Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index or 0] if device.type == "cuda" else 1,
            callbacks=[_Bar([system.label for system in systems])],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        with _interruptible(trainer):
            trainer.predict(module, datamodule=data, return_predictions=False)
    for system, score in zip(systems, module.scores, strict=True):
        if any(outcome.score is not None for outcome in system.outcomes):
            system.score = float(score.compute())  # pyright: ignore[reportCallIssue]


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


def _mean(device: torch.device) -> MeanMetric:
    """A running mean as exact as the device allows."""
    return MeanMetric().set_dtype(torch.float32 if device.type == "mps" else torch.float64)  # pyright: ignore[reportReturnType]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's greetings; its bar takes over rich's shared console, which gets its settings back."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    console = dict(vars(rich.get_console()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)  # advises more workers
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # Lightning 2.6 on torch 2.13, November 2026
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            vars(rich.get_console()).update(console)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C stays KeyboardInterrupt: Lightning turns it into an exit of the process and switches the signal off."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
