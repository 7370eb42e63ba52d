"""One sample in one process, without Lightning: a question about a video is answered in seconds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from tokenprune.adapters import adapt
from tokenprune.adapters.context import context_of
from tokenprune.evaluation.asking import Asking, check_fits
from tokenprune.evaluation.batches import Encoder, Readable
from tokenprune.evaluation.conditions import Loop
from tokenprune.evaluation.control import control_of
from tokenprune.evaluation.fitting import BatchSize
from tokenprune.evaluation.generate import guide_of
from tokenprune.evaluation.telling import Tell, nobody
from tokenprune.loading.processor import Processor
from tokenprune.results.journal import Journal
from tokenprune.results.system import System
from tokenprune.storage import first_process
from tokenprune.tasks import Task


def evaluate_one(
    model: PreTrainedModel,
    processor: Processor,
    task: Task,
    systems: Sequence[System],
    loop: Loop,
    *,
    assistant: PreTrainedModel | None = None,
    journal: Journal,
    tell: Tell = nobody,
) -> list[System] | None:
    """What `loop.evaluate` does, of a task's first sample and on the model's own device.

    The batch is made once for all systems. None in all processes but the first, which has it all.
    """
    if not first_process():
        return None
    for system in systems:
        check_fits(model, system.pipeline, assistant, loop.images)
    size = BatchSize(1)
    encode = Encoder(processor, size, context_of(model.config))
    batch = encode([Readable(task)[0]]).to(adapt(model).device)
    done: list[System] = []
    with torch.inference_mode(), warnings.catch_warnings(), closing(journal):
        # the results say so
        warnings.filterwarnings("ignore", ".* leaves no token of a video", UserWarning)
        for number, system in enumerate(systems, 1):
            tell(f"{number}/{len(systems)} {system.label} answers")
            pipeline = system.pipeline or control_of(done, loop.seed)
            if not journal.read(system.name):
                asking = Asking(
                    model,
                    guide_of(pipeline, assistant),
                    processor,
                    task,
                    system.name,
                    pipeline,
                    size,
                    max_new_tokens=loop.max_new_tokens,
                    stop_on_error=loop.stop_on_error,
                    images=loop.images,
                )
                for answer in asking.answers(batch):
                    journal.append(system.name, answer, process=0)
            answers = list(journal.read(system.name).values())
            done.append(replace(system, pipeline=pipeline, answers=answers))
    return done
