"""A run from its configuration to its results: everything that can fail early does so before
weights are loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.adapters import adapt
from tokenprune.errors import PromptError
from tokenprune.evaluation import logs
from tokenprune.evaluation.config import LMMS, RunConfig
from tokenprune.evaluation.figures import figures_of
from tokenprune.evaluation.fitting import BatchSize, batch_size
from tokenprune.evaluation.placement import Placement, placement
from tokenprune.evaluation.plan import Plan, plan_run
from tokenprune.evaluation.single import evaluate_one
from tokenprune.evaluation.telling import Tell, nobody
from tokenprune.evaluation.vanilla import vanilla
from tokenprune.loading.checkpoint import load
from tokenprune.loading.device import pick_device
from tokenprune.loading.hub import is_here
from tokenprune.loading.processor import Processor
from tokenprune.results import begun, copies
from tokenprune.results.answer import Answer
from tokenprune.results.differences import moved
from tokenprune.results.journal import Journal, count
from tokenprune.results.record import begin, environment, write
from tokenprune.results.reuse import weights
from tokenprune.results.run_folder import run_folder
from tokenprune.results.summarise import answered_by_all, summarise
from tokenprune.results.summary import Summary
from tokenprune.results.system import System
from tokenprune.storage import first_process
from tokenprune.strategy import Pipeline
from tokenprune.tasks import Task
from tokenprune.tasks.choice import asked


@dataclass(frozen=True)
class Finished:
    """A run that is on disk."""

    folder: Path
    summary: Summary
    systems: list[System]
    task: Task | None = None  # what was asked about, for whoever shows it


@dataclass(frozen=True)
class _Begun:
    """What a run writes down before it answers anything."""

    placement: Placement
    made_with: Mapping[str, Any]
    alone: bool  # one sample in this process: nothing that Lightning is needed for


def run(
    config: RunConfig,
    pipeline: Pipeline,
    command: str,
    tell: Tell = nobody,
    before: Callable[[], None] | None = None,
) -> Finished | None:
    """Evaluates the full model, the strategy, and `random` at the same measured budget, and writes
    the results.

    `pipeline` is what `config` names, resolved. `before` is called once, when all that can fail
    early has not, and no weights are loaded yet. None from a process that is not the first of
    several. Raises TokenpruneError, OSError; what is left then, `run_folder` says.
    """
    logs.check_installed(config.trainer)
    fetched = not _is_here(config)
    with run_folder(out=config.out, resume=config.resume, spec=str(pipeline)) as folder:
        tell("" if fetched else f"looking at {Path(config.video or config.task).name}")
        plan = plan_run(config, pipeline)
        made = _begin(plan, folder, tell)
        where = made.placement
        if before is not None:
            tell("")
            before()
        tell("" if fetched else f"loading {config.model}")
        model, processor = load(config.model, where.dtype, where.device, config)
        assistant = None
        if config.assistant is not None:
            assistant, _ = load(config.assistant, where.dtype, where.device, config)
        # now: Lightning takes the model back to the CPU
        place = environment(adapt(model).device, model.dtype, command)
        place["packages"] = plan.code.versions()
        if first_process():
            begun.sit_down(folder, place, count(folder))
        journal, batch = Journal(folder), batch_size(config.batch_size, where.kind, plan.extent)
        full = vanilla(plan, made.made_with["samples"], place, batch)
        models, loop = (model, processor), plan.loop(where.trainer)
        asked = {"assistant": assistant, "journal": journal}
        if made.alone:
            systems = evaluate_one(*models, plan.task, plan.systems, loop, **asked, tell=tell)
        else:
            from tokenprune.evaluation.loop import evaluate  # Lightning, as above

            known, begins = full.known(plan, folder, journal)
            batch = BatchSize(begins, batch.shrinks)
            asked |= {"known": known, "size": batch}
            tell("")
            systems = evaluate(*models, plan.task, plan.systems, loop, **asked)
        if systems is None:
            return None
        if batch.shrinks:
            place["batch_size"] = batch.as_dict()
        earlier = begun.earlier(folder)
        key = full.made(plan, batch, resumed=bool(earlier))
        summary = _summary(plan, systems, made, place, key, earlier)
        prompts = {answer.id: prompt_of(processor, answer) for answer in systems[0].answers}
        write(folder, summary, systems, prompts, plan.given, made.made_with)
        journal.discard()
    return Finished(folder, summary, systems, plan.task)


def _is_here(config: RunConfig) -> bool:
    """Whether models and samples are on this machine: downloads have bars of their own."""
    names = [name for name in (config.model, config.assistant) if name is not None]
    return all(map(is_here, names)) and not config.task.startswith(LMMS)


def _begin(plan: Plan, folder: Path, tell: Tell) -> _Begun:
    """Where the model goes and what the run is made with: written down, or as it was before."""
    config = plan.config
    before = begun.read(folder) if config.resume or not first_process() else None
    where = placement(
        config.model,
        dtype=config.dtype,
        device=config.device,
        trainer=config.trainer,
        spread=config.device_map is not None,
        begun=None if before is None else before["dtype"],
    )
    alone = config.video is not None and not where.trainer
    if not alone:
        tell("importing Lightning")
        from tokenprune.evaluation.trainer import check  # seconds

        check(where.trainer, pick_device(where.device))
    made_with = begun.made_with(
        plan.code,
        {name: weights(name, config.template) for name in plan.models},
        plan.task.fingerprint(),
        where.dtype,
        where.trainer.get("precision"),
    )
    if before is not None:
        begun.check(folder, plan.about, before, made_with)
    elif first_process():
        begin(folder, plan.given, made_with)
        copies.keep(folder, plan.code)
    return _Begun(where, made_with, alone)


def _summary(
    plan: Plan,
    systems: list[System],
    made: _Begun,
    place: Mapping[str, Any],
    key: str | None,
    earlier: list[dict[str, Any]],
) -> Summary:
    figures = {
        role: figures_of(plan.task, answers) for role, answers in answered_by_all(systems).items()
    }
    summary = summarise(systems, plan.setting, figures if any(figures.values()) else {})
    return dataclasses.replace(
        summary,
        code=made.made_with["code"],
        vanilla_key=None if moved(place, earlier) else key,
        environment={**place, "earlier": earlier} if earlier else place,
    )


def prompt_of(processor: Processor, answer: Answer) -> str:
    """The chat turn; empty where there is none, which is why that sample has an error."""
    try:
        question = asked(answer.question, answer.options)
        return processor.prompt(processor.told(question, answer.frame_times, answer.duration))
    except PromptError:
        return ""
