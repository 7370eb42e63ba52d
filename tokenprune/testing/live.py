"""The laws of a strategy on a model, through `attach`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tokenprune import registry
from tokenprune.adapters import adapt
from tokenprune.compat import caching, filled_cache
from tokenprune.errors import LoadingError, TokenpruneError
from tokenprune.runtime.session import attach
from tokenprune.strategy import Allocator, DecodeStage, Pipeline, PrefillStage
from tokenprune.testing.law import Finding, LawBrokenError, applies, holds, law, tried
from tokenprune.testing.models import Live, embedded, toys
from tokenprune.testing.prompts import Inputs

STEPS, MORE = 4, 3
DEPTHS = (6, 12, 28)


@dataclass(frozen=True)
class Trial:
    """A pipeline on a model."""

    pipeline: Pipeline
    live: Live


class Answer:
    """What came of one `generate`: words, logits of every step, reports, and the cache."""

    def __init__(self, output: Any, reports: Any) -> None:
        self.output, self.reports = output, list(reports)
        self.words: Tensor = output.sequences
        self.logits: Tensor = torch.stack(output.logits, 1)

    @property
    def slots(self) -> list[Any]:
        """The cells of every sample that are left, by frame."""
        return [report.slots for report in self.reports]


def on_models(strategy: Any, models: Sequence[str]) -> Iterator[Finding]:
    """What comes of the laws on models by name."""
    pipelines = [Pipeline((strategy,))]
    if isinstance(strategy, Allocator):  # it needs somebody's budget
        hosts = [registry.build(name).strategies[0] for name in ("uniform", "fastv")]
        pipelines = [Pipeline((host, strategy)) for host in hosts]
    for name in models:
        for pipeline in pipelines:
            yield from _on(strategy, pipeline, name)


def _on(strategy: Any, pipeline: Pipeline, name: str) -> Iterator[Finding]:
    try:
        live, reason = _model(pipeline, name)
    except LoadingError as error:
        if name != "tiny":
            raise
        live, reason = None, f"the embedded model cannot be loaded: {error}"
    group = name if live is None else live.name
    if len(pipeline.strategies) > 1:
        group = f"{group}, {pipeline}"
    if live is None:
        says = "attach carries it"
        yield Finding(group, "attach", says, "not applicable", reason)
        return
    trial = Trial(pipeline, live)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that nothing is left of a video
        for one in LIVE:
            yield tried(group, one, strategy, [trial])


def _model(pipeline: Pipeline, name: str) -> tuple[Live | None, str]:
    """The first model of that name that the pipeline can be attached to, or why there is none."""
    if name == "toy":
        stages = (*pipeline.of(PrefillStage), *pipeline.of(DecodeStage))
        deep = [stage.layer + 2 for stage in stages if hasattr(stage, "layer")]
        lives = (live for depth in (*DEPTHS, *deep) for live in toys(depth))
    else:
        lives = iter([embedded(name)])
    reasons: list[str] = []
    for live in lives:
        adapter = adapt(live.model)
        try:
            pipeline.check(adapter.depth)
            adapter.check_signals(pipeline.signals, str(pipeline))
        except TokenpruneError as error:
            reasons.append(str(error))
        else:
            return live, ""
    return None, reasons[0]


@contextmanager
def refusing() -> Iterator[None]:
    """What is refused once a prompt is in the model is a law broken."""
    try:
        yield
    except TokenpruneError as error:
        raise LawBrokenError(str(error)) from error


@torch.no_grad()
def answer(pipeline: Pipeline, model: Any, inputs: Inputs) -> Answer:
    """What the model says to a prompt under a pipeline."""
    attached = attach(model, pipeline)  # which may refuse this model
    with refusing(), attached as session:
        output = _generated(model, inputs)
        return Answer(output, session.report)


def _generated(model: Any, inputs: Inputs, **more: Any) -> Any:
    return model.generate(
        **inputs,
        **more,
        min_new_tokens=STEPS,  # nobody stops before
        max_new_tokens=STEPS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )


def agree(one: Answer, other: Answer, said: str, row: int | None = None) -> None:
    """Whether two answers are one; `row`: that of the first alone."""
    slots = one.slots if row is None else one.slots[row : row + 1]
    words = one.words if row is None else one.words[row : row + 1]
    logits = one.logits if row is None else one.logits[row : row + 1]
    holds(slots == other.slots, f"{said}: other tokens are left")
    holds(torch.equal(words[:, -STEPS:], other.words[:, -STEPS:]), f"{said}: other words")
    holds(close(logits, other.logits), f"{said}: other logits")


def close(one: Tensor, other: Tensor) -> bool:
    """Whether logits differ by no more than the order of sums makes of them."""
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3)


@law("attach carries it: answers come, no token is counted twice, and none comes back")
def answers(_: Any, trial: Trial) -> None:
    for report in answer(trial.pipeline, trial.live.model, trial.live.prompts.batch).reports:
        holds(report.kept <= report.full, f"{report.kept} of {report.full} tokens are left")
        falling = all(a >= b for a, b in pairwise(report.layers))
        holds(falling, f"tokens come back: {report.layers} by layer")
        left = [len(row) for row in report.slots]
        holds(
            sum(left) == report.layers[-1],
            f"the last layer sees {report.layers[-1]} tokens, their cells are {sum(left)}",
        )


@law("the same prompt gets the same answer again, also in inference mode")
def again(_: Any, trial: Trial) -> None:
    model, inputs = trial.live.model, trial.live.prompts.batch
    one = answer(trial.pipeline, model, inputs)
    with torch.inference_mode():
        two = answer(trial.pipeline, model, inputs)
    agree(one, two, "asked again, in inference mode")


@law("a padded batch gives each sample what it gets alone")
def batches(_: Any, trial: Trial) -> None:
    model, prompts = trial.live.model, trial.live.prompts
    together = answer(trial.pipeline, model, prompts.batch)
    for row, inputs in enumerate(prompts.alone):
        agree(together, answer(trial.pipeline, model, inputs), f"sample {row} alone", row)


@law("word by word through forward, a padded batch gives each sample what it gets alone")
@torch.no_grad()
def word_by_word(_: Any, trial: Trial) -> None:
    model, prompts = trial.live.model, trial.live.prompts
    every = (prompts.batch, *prompts.alone)
    try:
        together, *alone = (_forced(model, inputs) for inputs in every)
    except Exception as error:
        applies(False, f"the stock model wants more ({type(error).__name__})")
        return
    pairs = zip(together, alone, strict=True)
    applies(all(close(row, one[0]) for row, one in pairs), "the stock model does not either")
    attached = attach(model, trial.pipeline)
    with refusing(), attached as session:
        together, *alone = (_forced(model, inputs) for inputs in every)
        batch, *others = [[sample.slots for sample in report] for report in session.reports]
    moved = "padding moves positions in forward, and what it keeps depends on them"
    applies(batch == [slots for (slots,) in others], moved)
    for row, logits in enumerate(alone):
        holds(close(together[row], logits[0]), f"sample {row} alone: other logits")


def _forced(model: Any, inputs: Inputs) -> Tensor:
    """Logits behind a prompt and behind each of a few words, the same for every sample."""
    mask, out = inputs["attention_mask"], model(**inputs)
    found = [out.logits[:, -1]]
    for word in range(8, 8 + MORE):
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        ids = torch.full_like(mask[:, :1], word)
        kept = caching(model, filled_cache(out))
        out = model(input_ids=ids, attention_mask=mask, **kept)
        found.append(out.logits[:, -1])
    return torch.stack(found, 1)


@law("eager attention gives what sdpa gives")
def eager(_: Any, trial: Trial) -> None:
    live = trial.live
    applies(live.eager is not None, "one implementation of attention was loaded")
    one, two = (
        answer(trial.pipeline, model, live.prompts.batch) for model in (live.model, live.eager)
    )
    agree(one, two, "under eager attention")


@law("in bfloat16 as many tokens are left as the stages were asked to leave")
def half(_: Any, trial: Trial) -> None:
    live = trial.live
    applies(live.half is not None, "was loaded in float32")
    found = answer(trial.pipeline, live.half, live.prompts.batch)
    holds(found.logits.isfinite().all(), "logits are not finite")
    asked = [(stage.budget, stage.after) for report in found.reports for stage in report.stages]
    holds(all(budget == after for budget, after in asked), f"budgets were not kept: {asked}")


@law("a second turn goes on from what is left")
@torch.no_grad()
def further_turns(_: Any, trial: Trial) -> None:
    model, prompts = trial.live.model, trial.live.prompts
    found: list[Tensor] = []
    attached = attach(model, trial.pipeline)
    with refusing(), attached:
        for inputs in (prompts.batch, *prompts.alone):
            first = _generated(model, inputs)
            ids = first.sequences
            question = torch.arange(MORE).expand(len(ids), -1) + 8
            ids = torch.cat([ids, question], 1)
            mask = torch.ones_like(ids)
            mask[:, : inputs["attention_mask"].shape[1]] = inputs["attention_mask"]
            kept = caching(model, filled_cache(first))
            sent = {"input_ids": ids, "attention_mask": mask}
            found.append(torch.stack(_generated(model, sent, **kept).logits, 1))
    together, *alone = found
    for row, logits in enumerate(alone):
        same = close(together[row], logits[0])
        holds(same, f"sample {row} goes on otherwise in a batch than alone")


@law("nothing is left on the model")
@torch.no_grad()
def traces(_: Any, trial: Trial) -> None:
    model, inputs = trial.live.model, trial.live.prompts.batch
    before, hooks = model(**inputs).logits, _hooks(model)
    answer(trial.pipeline, model, inputs)
    holds(_hooks(model) == hooks, "hooks are left on the model")
    holds(torch.equal(model(**inputs).logits, before), "the model answers otherwise than before")


def _hooks(model: Any) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


LIVE = (answers, again, batches, word_by_word, eager, half, further_turns, traces)
