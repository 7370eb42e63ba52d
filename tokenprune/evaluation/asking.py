"""A system asked about a batch: generated, scored, and what it kept; whoever makes the loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from transformers import PreTrainedModel

from tokenprune.adapters import adapt
from tokenprune.errors import JudgeError, TaskError
from tokenprune.evaluation.batches import Batch, Failed, Group, encoded
from tokenprune.evaluation.fitting import BatchSize, fitted
from tokenprune.evaluation.generate import Generated, generate, guide_of
from tokenprune.flops import Decoder, flops_ratio
from tokenprune.guards import blame
from tokenprune.loading.processor import GREEDY, Processor
from tokenprune.results.answer import Answer
from tokenprune.runtime.session import attach
from tokenprune.strategy import Pipeline
from tokenprune.tasks import Task


@dataclass(frozen=True)
class Asking:
    """A system on its models, and how it is asked; greedy."""

    model: PreTrainedModel
    guide: PreTrainedModel | None  # of an allocator; None: the model itself, or nothing to ask
    processor: Processor
    task: Task
    role: str
    pipeline: Pipeline
    size: BatchSize
    max_new_tokens: int
    stop_on_error: bool
    images: bool = False

    @cached_property
    def decoders(self) -> tuple[Decoder, Decoder]:
        """The model's and its guide's: what their operations are counted of."""
        own, guide = (
            Decoder.of(adapt(part).text_config) for part in (self.model, self.guide or self.model)
        )
        return own, guide

    def answers(self, batch: Batch) -> Iterator[Answer]:
        """One for each sample, as they are made. TaskError where one of them is to stop the run."""
        for failed in batch.failed:
            yield self._failed(failed)
        for group, made in self._generated(batch):
            for row in range(len(group.samples)):
                try:
                    yield self._answer(group, row, made)
                except JudgeError as error:
                    yield self._failed(Failed(group.indices[row], str(error)))

    def _generated(self, batch: Batch) -> Iterator[tuple[Group, Generated]]:
        """What the model makes of the batch, in groups that fit into memory."""
        for whole in batch.groups:
            rows = range(len(whole.samples))
            for _, (group, made) in fitted(rows, self.size, partial(self._generate, whole)):
                yield group, made

    def _generate(self, whole: Group, rows: Sequence[int]) -> tuple[Group, Generated]:
        """Of these samples of a group, and the group of them."""
        group = whole
        if len(rows) < len(whole.samples):
            members = [(whole.indices[row], whole.samples[row]) for row in rows]
            group = encoded(self.processor, members).to(whole.inputs["input_ids"].device)
        settings: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, **GREEDY}
        with blame.asking([sample.id for sample in group.samples]):
            made = generate(
                self.model,
                self.pipeline,
                self.processor,
                group.inputs,
                settings,
                assistant=self.guide,
                timed=True,
                images=self.images,
            )
        return group, made

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
        ran, read = report.probe.layers, report.probe.tokens(own.videos)
        guided = flops_ratio(decoder, own.layers, own.full, guided_by, ran, probe_tokens=read)
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


def check_fits(
    model: PreTrainedModel,
    pipeline: Pipeline | None,
    assistant: PreTrainedModel | None,
    images: bool,
) -> None:
    """Says what does not fit the models before any of them answers."""
    if pipeline is not None:
        with attach(model, pipeline, assistant=guide_of(pipeline, assistant), images=images):
            pass
