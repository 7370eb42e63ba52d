"""Score jobs: runs of `tokenprune run` in folders of their own, and what cells read in them.

A job is the full model, the strategy and the random control on the same samples. The full model's
answers are taken from a sibling where nothing has changed; a run that was cut off goes on.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import RunConfig
from tokenprune.evaluation.figures import figures_of
from tokenprune.evaluation.plan import task_of
from tokenprune.evaluation.run import run
from tokenprune.plugins import load_plugins
from tokenprune.registry import resolve
from tokenprune.reproduce.cell import Found
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.jobs import Job
from tokenprune.reproduce.schema import Column
from tokenprune.results import provenance
from tokenprune.results.answer import VANILLA, Answer, subject_of
from tokenprune.results.files import SUMMARY
from tokenprune.results.read import Run, read_run
from tokenprune.results.statistics import Resamples
from tokenprune.tasks import Task

_OTHERWISE = "read_otherwise"  # a figure of the protocols' own tasks
_CLOSE = 1e-6  # a task's metric is the mean of its samples' scores if it equals it so nearly


def config_of(job: Job, folder: Path, config: ReproduceConfig) -> RunConfig:
    """The run that a job is: begun in `folder`, or gone on with."""
    begun = (folder / "config.yaml").is_file()
    where = {"resume" if begun else "out": str(folder)}
    words: dict[str, Any] = {**job.words, **where, "device": config.device}
    return RunConfig(**words)


def do(job: Job, folder: Path, config: ReproduceConfig, command: str) -> Run:
    """The finished run of a job, made now unless it is there. Raises TokenpruneError, OSError."""
    settings = config_of(job, folder, config)
    load_plugins(settings.plugin)
    pipeline = resolve(
        settings.strategy,
        settings.options,
        seed=settings.seed,
        assistant=settings.assistant,
    )
    if (folder / SUMMARY).is_file():
        found = read_run(folder)
        code = provenance.code_of_pipeline(pipeline) | provenance.code_of_package()
        _check_code(folder, found, code)
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    run(settings, pipeline, command)
    return read_run(folder)


def _check_code(folder: Path, found: Run, code: provenance.Code) -> None:
    """ConfigError where a strategy's code is no longer what the run was made with.

    The run has more on record: its control, its task, its model's family.
    """
    now = code.digests()
    then = {name: digest for name, digest in found.summary.code.items() if name in now}
    changed = provenance.differing(then, now)
    if changed:
        raise ConfigError(
            f"{folder} was made with another {changed[0]}: remove that folder to run it again, or "
            "write another out="
        )


Part = Callable[[Answer], bool]


def asked(job: Job) -> Task:
    """The task of a job, with its documents: once for all cells."""
    return task_of(RunConfig(**job.words))


def read(
    job: Job,
    done: Run,
    task: Task,
    column: Column,
    of: int,
    judge: str | None,
    config: ReproduceConfig,
) -> Found:
    """What a job found for a cell. `of`: samples that the protocol has, 0 where that is not known;
    `judge`: the paper's, of a judged column.

    ConfigError for a metric that the task does not report.
    """
    role = subject_of(done.roles)
    part = _part(task, column.part)
    answers = {name: _answered(done.answers(name), part) for name in done.roles}
    every = [answer for answer in done.answers(role) if part(answer)]
    own, full = answers[role], answers[VANILLA]
    errors = sum(answer.error is not None for answer in every)
    figures = figures_of(task, own)
    value, other = _metric(task, column, own, figures), _metric(task, column, full)
    low, high, below, above = _intervals(own, full, column, value, other, config.seed)
    is_full = role == VANILLA
    environment = done.summary.environment
    return Found(
        value=value,
        low=low,
        high=high,
        effect=None if is_full else value - other,
        effect_low=None if is_full else below,
        effect_high=None if is_full else above,
        n=len(own),
        of=of or (len(every) if config.limit is None else len(task)),
        errors=errors,
        full=is_full,
        judge=config.judge if column.from_ == "judged" else None,
        run=job.digest,
        settings={
            **job.told,
            "protocol": job.protocol,
            "printed_judge": judge,
            "prompt": done.records[0].get("prompt") if done.records else None,
        },
        machine=str(environment.get("device_name") or environment["device"]),
        date=datetime.date.today().isoformat(),
        revision=environment.get("git_revision"),
        **_readings(own),
        read_otherwise=_whole(figures.get(_OTHERWISE)),
        folder=done.folder.name,
    )


def _part(task: Task, wanted: Mapping[str, Any]) -> Part:
    """Whether a sample belongs to the part of the task that a column is about."""
    if not wanted:
        return lambda answer: True
    return lambda answer: task.is_of(answer.index, wanted)


def _answered(answers: Sequence[Answer], part: Part) -> list[Answer]:
    return [answer for answer in answers if answer.error is None and part(answer)]


def _metric(
    task: Task,
    column: Column,
    answers: Sequence[Answer],
    known: Mapping[str, float] | None = None,
) -> float:
    """The column's figure over these answers, in the paper's scale; `known`: the task's figures of
    them.
    """
    figures = figures_of(task, answers) if known is None else known
    if not column.metric or not figures:
        scores = [answer.score for answer in answers if answer.score is not None]
        return column.scale * float(np.mean(scores)) if scores else math.nan
    for name, value in figures.items():
        if column.metric in (name, name.rpartition("/")[2]):
            return column.scale * float(value)
    raise ConfigError(
        f"{task.name} reports no {column.metric}: it has {', '.join(figures) or 'no figures'}"
    )


def _intervals(
    own: Sequence[Answer],
    full: Sequence[Answer],
    column: Column,
    value: float,
    other: float,
    seed: int,
) -> tuple[float | None, float | None, float | None, float | None]:
    """Of the value and of the effect, where the figure is the mean of the samples' scores."""
    baseline = {answer.index: answer.score for answer in full}
    both = [one for one in own if one.score is not None and baseline.get(one.index) is not None]
    if not both:
        return None, None, None, None
    scores = np.array([answer.score for answer in both], dtype=float)
    others = np.array([baseline[answer.index] for answer in both], dtype=float)
    scale = value / float(scores.mean()) if scores.any() else column.most
    if not math.isclose(scale * float(others.mean()), other, rel_tol=_CLOSE, abs_tol=_CLOSE):
        return None, None, None, None  # another figure than the mean of scores
    drawn = Resamples(["all"] * len(both), seed=seed, groups=[answer.group for answer in both])
    estimate, paired = drawn.estimate(scores), drawn.paired(scores, others)
    low, high = estimate.interval or (None, None)
    below, above = paired.interval or (None, None)
    return _scaled(low, scale), _scaled(high, scale), _scaled(below, scale), _scaled(above, scale)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _readings(answers: Sequence[Answer]) -> dict[str, int]:
    """How many answers could not be taken as they stand."""
    kinds = [answer.reading for answer in answers]
    return {name: kinds.count(name) for name in ("guessed", "unparsed", "empty")}
