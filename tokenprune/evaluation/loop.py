"""The evaluation loop: several systems answer the same samples, through Lightning's Trainer, on one
process or many.

A system is a pipeline on the model: the full model, the strategy, and the `random` control at the
strategy's measured budget. They run one after the other, since the last needs what the second has
kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel

from tokenprune.adapters import adapt
from tokenprune.adapters.context import context_of
from tokenprune.evaluation.answering import Answering
from tokenprune.evaluation.asking import Asking, check_fits
from tokenprune.evaluation.batches import Readable
from tokenprune.evaluation.conditions import PLAIN, Loop
from tokenprune.evaluation.control import control_of
from tokenprune.evaluation.data import Samples
from tokenprune.evaluation.fitting import BatchSize
from tokenprune.evaluation.generate import guide_of
from tokenprune.evaluation.known import Known
from tokenprune.evaluation.manners import interruptible, quiet, workers_alive
from tokenprune.evaluation.progress import Bar
from tokenprune.evaluation.trainer import trainer_of
from tokenprune.loading.processor import Processor
from tokenprune.results.answer import Answer
from tokenprune.results.journal import Journal
from tokenprune.results.system import System
from tokenprune.tasks import Task


def evaluate(
    model: PreTrainedModel,
    processor: Processor,
    task: Task,
    systems: Sequence[System],
    loop: Loop = PLAIN,
    *,
    assistant: PreTrainedModel | None = None,
    journal: Journal | None = None,
    known: Mapping[str, Known] | None = None,
    size: BatchSize | None = None,
) -> list[System] | None:
    """The systems with their answers, in the task's order; None in all processes but the first.

    They run in the order given; one without a pipeline becomes the control of the strategy before
    it. Samples that the `journal` holds are not evaluated again, nor are those `known` by role from
    another run, but for a few. Several processes see each other's answers in the journal's folder,
    which has to be one they all can read. `size` is what a batch may become, instead of
    `loop.batch_size`.
    """
    journal = journal or Journal()
    samples = len(task) if loop.limit is None else min(loop.limit, len(task))
    # all of it now: once the first process writes, the others would share out something else
    waiting = {system.name: _waiting(journal, system.name, samples) for system in systems}
    for system in systems:
        check_fits(model, system.pipeline, assistant, loop.images)
    bar, done = Bar(), []
    batch = size or BatchSize(loop.batch_size)
    shared = (model, assistant, processor, task, Readable(task), journal, loop, batch)
    evaluation = _Evaluation(*shared)
    with quiet():
        trainer = trainer_of(adapt(model).device, loop.trainer, [bar])
        for number, system in enumerate(systems, 1):
            bar.label = f"{number}/{len(systems)} {system.label}"
            pipeline = system.pipeline or control_of(done, loop.seed)
            others = (known or {}).get(system.name, Known())
            pending = waiting[system.name]
            named = replace(system, pipeline=pipeline)
            done.append(evaluation.run(named, pending, others, samples, trainer, bar))
    return done if trainer.is_global_zero else None


def _waiting(journal: Journal, role: str, size: int) -> list[int]:
    """Samples without an answer."""
    made = journal.read(role)
    return [index for index in range(size) if index not in made]


@dataclass(frozen=True)
class _Evaluation:
    """What all systems of one evaluation share."""

    model: PreTrainedModel
    assistant: PreTrainedModel | None
    processor: Processor
    task: Task
    samples: Readable
    journal: Journal
    loop: Loop
    batch: BatchSize

    def run(
        self,
        system: System,
        pending: Sequence[int],
        known: Known,
        size: int,
        trainer: Any,
        bar: Bar,
    ) -> System:
        """The system with its answers to the first `size` samples, `pending` of them to be made."""
        first = known.asked_again(pending, self.batch.now)
        self._ask(system, first, trainer, bar)
        kept = known.confirmed(self.journal.read(system.name))
        if kept.refused is not None:
            asked = set(first)
            self._ask(system, [i for i in pending if i not in asked], trainer, bar)
        found: dict[int, Answer] = {**kept.answers, **self.journal.read(system.name)}
        answers = [found[index] for index in sorted(found) if index < size]
        return replace(system, answers=answers, reused=kept.folder, refused=kept.refused)

    def _ask(self, system: System, indices: Sequence[int], trainer: Any, bar: Bar) -> None:
        """Answers to these samples are in the journal afterwards, whichever process made them."""
        if not indices:
            return
        assert system.pipeline is not None
        if self.loop.alike:
            indices = sorted(indices, key=lambda index: self.task.label(index).category)
        asking = Asking(
            self.model,
            guide_of(system.pipeline, self.assistant),
            self.processor,
            self.task,
            system.name,
            system.pipeline,
            self.batch,
            max_new_tokens=self.loop.max_new_tokens,
            stop_on_error=self.loop.stop_on_error,
            images=self.loop.images,
        )
        module = Answering(asking, self.journal)
        data = Samples(
            self.samples,
            indices,
            self.processor,
            size=self.batch,
            workers=self.loop.workers,
            context=context_of(self.model.config),
        )
        bar.scores = module.scores
        with interruptible(trainer), workers_alive(), closing(self.journal):
            trainer.predict(module, datamodule=data, return_predictions=False)
