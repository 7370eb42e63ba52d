"""The evaluation loop: several systems answer the same samples, through Lightning's Trainer, on one
process or many.

A system is a pipeline on the model: the full model, the strategy, and the `random` control at the
strategy's measured budget. They run one after the other, since the last needs what the second has
kept.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import PreTrainedModel

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.errors import TaskError
from tokenprune.evaluation.category_scores import CategoryScores
from tokenprune.evaluation.data import Batch, Failed, Group, Readable, Samples
from tokenprune.evaluation.progress import Bar
from tokenprune.evaluation.quiet import interruptible, quiet, workers_alive
from tokenprune.evaluation.rounds import rounds
from tokenprune.evaluation.trainer import trainer_of
from tokenprune.flops import Decoder, flops_ratio
from tokenprune.guards import blame
from tokenprune.loading.processor import GREEDY, Processor
from tokenprune.results.answer import STRATEGY, Answer
from tokenprune.results.journal import Journal
from tokenprune.results.system import System
from tokenprune.runtime.report import Report
from tokenprune.runtime.session import attach
from tokenprune.storage import first_process
from tokenprune.strategy import Pipeline
from tokenprune.tasks import Task


@dataclass(frozen=True)
class Loop:
    """How samples go through the model; none of it changes an answer."""

    batch_size: int = 1
    limit: int | None = None
    max_new_tokens: int = 48
    seed: int = 0
    workers: int = 0  # processes that decode videos; 0: this one
    stop_on_error: bool = False
    trainer: Mapping[str, Any] = field(default_factory=dict)  # Lightning's own options


class Evaluation(LightningModule):
    """One system: generates greedily, without gradients, each batch inside its own `attach`, and
    records.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        assistant: PreTrainedModel | None,
        processor: Processor,
        task: Task,
        system: System,
        journal: Journal,
        loop: Loop,
    ) -> None:
        super().__init__()
        self.model = model
        self.processor, self.task, self.system = processor, task, system
        self.journal, self.loop = journal, loop
        self.guide = assistant if self.pipeline.allocator is not None else None
        self.decoders = [
            Decoder.of(adapt(part).text_config) for part in (model, self.guide or model)
        ]
        self.on_sigterm = signal.getsignal(signal.SIGTERM)
        self.parent = os.getppid()
        self.scores = CategoryScores(
            task.categories,
            torch.float32 if model.device.type == "mps" else torch.float64,
            sync_on_compute=False,  # each process shows its own
        )

    @property
    def pipeline(self) -> Pipeline:
        assert self.system.pipeline is not None
        return self.system.pipeline

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> int:
        """Records what the model makes of a batch; returns how many samples that were."""
        if os.getppid() != self.parent and not first_process():
            raise RuntimeError(
                "the process that started this one is gone, and with it whoever gathers the answers"
            )
        for failed in batch.failed:
            self._record(self._failed(failed))
        for group in batch.groups:
            named = blame.asking([sample.id for sample in group.samples])
            with (
                named,
                attach(self.model, self.pipeline, assistant=self.guide, timed=True) as session,
            ):
                ids = self.model.generate(  # pyright: ignore[reportCallIssue]
                    **group.inputs,
                    max_new_tokens=self.loop.max_new_tokens,
                    **GREEDY,
                    pad_token_id=self.processor.pad,
                )
            made = ids[:, group.inputs["input_ids"].shape[1] :]
            for row, text in enumerate(self.processor.decode(made)):
                # the first token is the prompt's own
                session.report[row].end(self._length(made[row]) - 1)
                self._record(self._answer(group, row, text, session.report))
        return len(batch)

    def _length(self, made: Tensor) -> int:
        """Tokens of one answer, the one that ends it included; what follows is padding."""
        ending = self.model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
        ends = torch.isin(
            made, torch.as_tensor([] if ending is None else ending, device=made.device)
        )
        return int(ends.int().argmax()) + 1 if bool(ends.any()) else len(made)

    def on_predict_start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning has put itself before it, and would wait for all processes inside the
            # handler
            signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_predict_end(self) -> None:
        self.trainer.strategy.barrier()  # then everything is in the journal

    def _record(self, answer: Answer) -> None:
        self.journal.append(self.system.name, answer, self.trainer.global_rank)
        if answer.score is not None:
            self.scores.update(answer.category, answer.score)  # pyright: ignore[reportCallIssue]

    def _failed(self, sample: Failed) -> Answer:
        label = self.task.label(sample.index)
        if self.loop.stop_on_error:
            hint = " (on_error=record goes on without it)" if len(self.task) > 1 else ""
            raise TaskError(f"sample {label.id}: {sample.reason}{hint}")
        return Answer(sample.index, **label._asdict(), error=sample.reason)

    def _answer(self, group: Group, row: int, text: str, report: Report) -> Answer:
        sample, own = group.samples[row], report[row]
        score = self.task.score(text, sample)
        # a sample's share of the batch; a step makes one token of every sample
        time = {
            name: ms and (ms if "per_token" in name else ms / len(report))
            for name, ms in report.time.items()
        }
        decoder, guided_by = self.decoders
        compressed = flops_ratio(decoder, own.layers, own.full)
        guided = flops_ratio(decoder, own.layers, own.full, guided_by, report.probe_layers)
        return Answer(
            index=group.indices[row],
            id=sample.id,
            category=sample.category,
            question=sample.question,
            answer=sample.answer,
            group=sample.group,
            frame_times=None if sample.times is None else list(sample.times),
            evidence=list(sample.evidence) or None,
            prediction=text,
            score=None if math.isnan(score) else score,
            reading=self.task.reading(text, sample),
            options=sample.options,
            tokens=own.as_dict(),
            time=time,
            flops_ratio=guided,
            guide_flops_ratio=guided - compressed,
        )


def evaluate(
    model: PreTrainedModel,
    processor: Processor,
    task: Task,
    systems: Sequence[System],
    loop: Loop = Loop(),
    *,
    assistant: PreTrainedModel | None = None,
    journal: Journal | None = None,
) -> bool:
    """Runs `systems` over the task in the order given, and fills in their answers, in the task's
    order.

    Samples that the `journal` holds are not evaluated again, nor are systems that have answers.
    Several processes see each other's answers in the journal's folder, which has to be one they
    all can read. Returns whether this process is the first of them; what is done with the answers
    is its business.
    """
    journal = journal or Journal()
    adapter = adapt(model)
    size = len(task) if loop.limit is None else min(loop.limit, len(task))
    readable = Readable(task)
    # all of it now: once the first process writes, the others would share out something else
    waiting = {
        s.name: [i for i in range(size) if i not in done]
        for s in systems
        for done in [journal.read(s.name)]
    }
    for system in systems:
        # what does not fit the models is said before any of them answers
        if system.pipeline is not None:
            with attach(
                model,
                system.pipeline,
                assistant=assistant if system.pipeline.allocator is not None else None,
            ):
                pass
    bar = Bar()
    with quiet():
        trainer = trainer_of(model.device, loop.trainer, [bar])
        for number, system in enumerate(systems, 1):
            if system.answers:
                continue
            if system.pipeline is None:
                system.pipeline = _control(systems, loop.seed)
            for pending in rounds(system, waiting[system.name], journal, loop.batch_size):
                if not pending:
                    continue
                module = Evaluation(model, assistant, processor, task, system, journal, loop)
                shape = adapter.cells, adapter.separators
                data = Samples(
                    readable,
                    pending,
                    processor,
                    shape,
                    batch_size=loop.batch_size,
                    workers=loop.workers,
                    context=getattr(adapter.text_config, "max_position_embeddings", None),
                )
                for answer in journal.read(system.name).values():
                    if answer.score is not None:
                        module.scores.update(answer.category, answer.score)  # pyright: ignore[reportCallIssue]
                bar.label, bar.scores = f"{number}/{len(systems)} {system.label}", module.scores
                with interruptible(trainer), workers_alive(), closing(journal):
                    trainer.predict(module, datamodule=data, return_predictions=False)
            found = {**system.known, **journal.read(system.name)}
            system.answers = [found[index] for index in sorted(found) if index < size]
    return trainer.is_global_zero


def _control(systems: Sequence[System], seed: int) -> Pipeline:
    """`random` at the layer-average fraction of tokens that the strategy has kept, over all its
    samples.
    """
    (own,) = (system for system in systems if system.name == STRATEGY)
    ratios = [answer.tokens["layer_average_ratio"] for answer in own.answered]
    keep = min(1.0, statistics.fmean(ratios)) if ratios else 1.0
    return registry.build("random", {"random.keep": keep, "random.seed": seed})
