"""One batch under a pipeline: the answers, how long they are, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from tokenprune.adapters import adapt
from tokenprune.loading.processor import Processor
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.recorder import Recorder
from tokenprune.runtime.report import Report
from tokenprune.runtime.session import Session, attach
from tokenprune.strategy import Pipeline


@dataclass(frozen=True)
class Generated:
    """A batch's answers; its model is stock again."""

    texts: list[str]
    lengths: list[int]  # in tokens, with the one that ends an answer
    report: Report
    time: dict[str, float | None]  # milliseconds of the batch: `Report.time`, and all of it
    ids: Int[Tensor, "b n"]  # generated tokens; what follows the end of an answer is padding


def generate(
    model: PreTrainedModel,
    pipeline: Pipeline,
    processor: Processor,
    inputs: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    *,
    assistant: PreTrainedModel | None = None,
    timed: bool = False,
    images: bool = False,
    recorder: Recorder | None = None,
) -> Generated:
    """Answers to a batch inside an `attach` of its own; `settings` are those of `generate`.

    `timed`, `images` and `recorder` are as in `attach`.

    The report has no decoding steps beyond a sample's own answer.
    """
    guide, clock = guide_of(pipeline, assistant), Clock(adapt(model).devices, timed)
    how = {"timed": timed, "images": images, "recorder": recorder}
    with attach(model, pipeline, assistant=guide, **how) as session:
        return answered(session, model, processor, inputs, settings, clock)


def answered(
    session: Session,
    model: PreTrainedModel,
    processor: Processor,
    inputs: Mapping[str, Any],
    settings: Mapping[str, Any],
    clock: Clock,
) -> Generated:
    """The same inside a `session` that is open; `clock` measures the whole answer."""
    since = clock.now()
    ids: Int[Tensor, "b n"] = model.generate(  # pyright: ignore[reportCallIssue]
        **inputs,
        **settings,
        pad_token_id=processor.pad,
    )
    whole = 1e3 * (clock.now() - since)
    made = ids[:, inputs["input_ids"].shape[1] :]
    ending = model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
    lengths = [_length(row, ending) for row in made]
    for row, length in enumerate(lengths):
        session.report[row].end(length - 1)  # the first token is the prompt's own
    time = {**session.report.time, "answer_ms": whole}
    return Generated(processor.decode(made), lengths, session.report, time, made)


def guide_of(pipeline: Pipeline, assistant: PreTrainedModel | None) -> PreTrainedModel | None:
    """The assistant, where there is an allocator to ask it."""
    return None if pipeline.allocator is None else assistant


def _length(made: Tensor, ending: int | list[int] | None) -> int:
    """Tokens of one answer, the one that ends it included; what follows is padding."""
    ends = torch.isin(made, torch.as_tensor([] if ending is None else ending, device=made.device))
    return int(ends.int().argmax()) + 1 if bool(ends.any()) else len(made)
