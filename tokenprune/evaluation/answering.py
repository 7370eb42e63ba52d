"""One system answers its samples, as Lightning runs it: each batch is generated and recorded."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch import LightningModule
from transformers import PreTrainedModel

from tokenprune.adapters import adapt
from tokenprune.errors import JudgeError, TaskError
from tokenprune.evaluation.batching import BatchSize, fitted
from tokenprune.evaluation.category_scores import CategoryScores
from tokenprune.evaluation.data import Batch, Failed, Group, encoded
from tokenprune.evaluation.generate import Generated, generate, guide_of
from tokenprune.flops import Decoder, flops_ratio
from tokenprune.guards import blame
from tokenprune.loading.processor import GREEDY, Processor
from tokenprune.loading.spread import is_placed
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal
from tokenprune.storage import first_process
from tokenprune.strategy import Pipeline
from tokenprune.tasks import Task


class Answering(LightningModule):
    """Greedy, without gradients; every answer is in the journal when its batch ends."""

    model: PreTrainedModel
    guide: PreTrainedModel | None

    def __init__(
        self,
        model: PreTrainedModel,
        assistant: PreTrainedModel | None,
        processor: Processor,
        task: Task,
        role: str,
        pipeline: Pipeline,
        journal: Journal,
        *,
        size: BatchSize,
        max_new_tokens: int,
        stop_on_error: bool,
        images: bool = False,
    ) -> None:
        super().__init__()
        self._hold("model", model)
        self._hold("guide", guide_of(pipeline, assistant))
        self.processor, self.task = processor, task
        self.role, self.pipeline, self.journal = role, pipeline, journal
        self.size = size
        self.settings = {"max_new_tokens": max_new_tokens, **GREEDY}
        self.stop_on_error, self.images = stop_on_error, images
        parts = (model, self.guide or model)
        self.decoders = [Decoder.of(adapt(part).text_config) for part in parts]
        self.on_sigterm = signal.getsignal(signal.SIGTERM)
        self.parent = os.getppid()
        self.scores = CategoryScores(
            task.categories,
            torch.float32 if adapt(model).device.type == "mps" else torch.float64,
            sync_on_compute=False,  # each process shows its own
        )
        for answer in journal.read(role).values():
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
        for failed in batch.failed:
            self._record(self._failed(failed))
        for group, made in self._generated(batch):
            for row in range(len(group.samples)):
                try:
                    self._record(self._answer(group, row, made))
                except JudgeError as error:
                    self._record(self._failed(Failed(group.indices[row], str(error))))
        return len(batch)

    def _generated(self, batch: Batch) -> Iterator[tuple[Group, Generated]]:
        """What the model makes of the batch, in groups that fit into memory."""
        for whole in batch.groups:

            def answer(rows: Sequence[int], whole: Group = whole) -> tuple[Group, Generated]:
                return self._answers(whole, rows)

            rows = range(len(whole.samples))
            for _, (group, made) in fitted(rows, self.size, answer):
                yield group, made

    def _answers(self, whole: Group, rows: Sequence[int]) -> tuple[Group, Generated]:
        """To these samples of a group, and the group of them."""
        group = whole
        if len(rows) < len(whole.samples):
            members = [(whole.indices[row], whole.samples[row]) for row in rows]
            group = encoded(self.processor, members).to(whole.inputs["input_ids"].device)
        with blame.asking([sample.id for sample in group.samples]):
            made = generate(
                self.model,
                self.pipeline,
                self.processor,
                group.inputs,
                self.settings,
                assistant=self.guide,
                timed=True,
                images=self.images,
            )
        return group, made

    def on_predict_start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning has put itself before it, and would wait for all processes inside the
            # handler
            signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_predict_end(self) -> None:
        self.trainer.strategy.barrier()  # then everything is in the journal

    def _record(self, answer: Answer) -> None:
        self.journal.append(self.role, answer, self.trainer.global_rank)
        self._count(answer)

    def _count(self, answer: Answer) -> None:
        if answer.score is not None:
            self.scores.update(answer.category, answer.score)  # pyright: ignore[reportCallIssue]

    def _failed(self, sample: Failed) -> Answer:
        label = self.task.label(sample.index)
        if self.stop_on_error:
            hint = " (on_error=record goes on without it)" if len(self.task) > 1 else ""
            raise TaskError(f"sample {label.id}: {sample.reason}{hint}")
        return Answer(sample.index, **label._asdict(), error=sample.reason)

    def _answer(self, group: Group, row: int, made: Generated) -> Answer:
        sample, text, report = group.samples[row], made.texts[row], made.report
        own, score = report[row], self.task.score(text, sample)
        # a sample's share of the batch; a step makes one token of every sample
        time = {
            name: ms and (ms if "per_token" in name else ms / len(report))
            for name, ms in made.time.items()
        }
        decoder, guided_by = self.decoders
        alone = flops_ratio(decoder, own.layers, own.full)
        guided = flops_ratio(decoder, own.layers, own.full, guided_by, report.probe_layers)
        return Answer(
            index=group.indices[row],
            id=sample.id,
            category=sample.category,
            question=sample.question,
            answer=sample.answer,
            group=sample.group,
            frame_times=None if sample.times is None else list(sample.times),
            duration=sample.duration,
            evidence=list(sample.evidence) or None,
            prediction=text,
            score=None if math.isnan(score) else score,
            reading=self.task.reading(text, sample),
            verdict=self.task.verdict(text, sample),  # pyright: ignore[reportArgumentType]
            options=sample.options,
            tokens=own.as_dict(),
            time=time,
            flops_ratio=guided,
            guide_flops_ratio=guided - alone,
        )
