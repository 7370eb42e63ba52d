"""`check_task`: the laws that a task has to keep."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

import torch

from tokenprune import tasks
from tokenprune.errors import TokenpruneError
from tokenprune.loading.media import Medium, media_of
from tokenprune.tasks.base import EMPTY, GUESSED, READ, UNPARSED, Label, Sample, Task
from tokenprune.testing.equal import same
from tokenprune.testing.law import applies, holds, law, tried
from tokenprune.testing.report import Report, together

SAMPLES = 3


def check_task(
    task: Task | type[Task] | str,
    *,
    samples: int = 8,
    frames: int = 8,
    seed: int = 0,
    show: bool = True,
) -> Report:
    """Holds a task to every law, prints a report and returns it.

    `task` is one that was built, a class that registers a name, or what `task=` takes; of the last
    two a small one of `frames` frames is built. Its first `samples` samples are looked at.

    Raises BrokenLawsError (an AssertionError) that lists what is broken, after the report was
    printed.
    """
    built, build = _built(task, frames, seed)
    name = getattr(built, "name", type(built).__name__)
    findings = [tried("task", one, built, [build]) for one in WHOLE]
    first = range(min(samples, len(built)))
    findings += [tried("sample", one, built, first) for one in EACH]
    return together(f"{name} ({type(built).__name__})", findings).settled(show)


Build = Callable[..., Task]


def _built(task: Task | type[Task] | str, frames: int, seed: int) -> tuple[Task, Build | None]:
    """The task that is meant, and how to build another one."""
    if isinstance(task, Task):
        return task, None
    if isinstance(task, str):
        name = task

        def build(**changed: Any) -> Task:
            given = {"samples": SAMPLES, "frames": frames, "seed": seed, **changed}
            if not tasks.draws(name):  # it has samples of its own
                given["samples"] = None
            return tasks.build(name, **given)

        return build(), build

    def made(**changed: Any) -> Task:
        given: dict[str, Any] = {"samples": SAMPLES, "frames": frames, "seed": seed}
        return task(**{**given, **changed})

    return made(), made


@law("there are samples, as many as were asked for")
def length(task: Any, build: Build | None) -> None:
    holds(len(task) > 0, "has no samples")
    if build is not None and tasks.takes(type(task), "samples"):
        fewer = build(samples=2)
        holds(len(fewer) == 2, f"has {len(fewer)} samples where 2 were asked for")


@law("every sample has an id of its own")
def ids(task: Any, _: Any) -> None:
    every = [task.label(index).id for index in range(len(task))]
    twice = sorted({one for one in every if every.count(one) > 1}) if len(every) < 2000 else []
    holds(not twice and len({*every}) == len(every), f"several samples are called {twice[:3]}")


@law("categories are those that the task names")
def categories(task: Any, _: Any) -> None:
    found = {task.label(index).category for index in range(len(task))}
    strange = sorted(found - {*task.categories})
    holds(not strange, f"samples of {strange}, the task names {[*task.categories]}")


@law("its fingerprint is plain values, the same for the same task")
def fingerprint(task: Any, build: Build | None) -> None:
    found = dict(task.fingerprint())
    try:
        text = json.dumps(found, sort_keys=True)
    except TypeError as error:
        holds(False, f"the fingerprint cannot be written down: {error}")
        return
    holds(json.dumps(dict(task.fingerprint()), sort_keys=True) == text, "changes when asked again")
    if build is not None:
        again = json.dumps(dict(build().fingerprint()), sort_keys=True)
        holds(again == text, "the same task, built again, has another fingerprint")


@law("another number of frames, and another seed that changes samples, is another fingerprint")
def fingerprint_of_others(task: Any, build: Build | None) -> None:
    applies(build is not None, "was handed in built: pass its class, or its name")
    assert build is not None
    mine = dict(task.fingerprint())
    for changed in ({"frames": len(task[0].frames) * 2}, {"seed": 1_000_003}):
        with suppress(TokenpruneError):  # which a task may refuse
            other = build(**changed)
            pairs = ((task[index], other[index]) for index in range(min(2, len(task), len(other))))
            differs = any(not same(_parts(one), _parts(two)) for one, two in pairs)
            alike = dict(other.fingerprint()) == mine
            holds(not differs or not alike, f"other samples with {changed}, the same fingerprint")


@law("it can be sent to the processes that load data")
def sent(task: Any, _: Any) -> None:
    try:
        copy = pickle.loads(pickle.dumps(task))
    except Exception as error:
        holds(False, f"cannot be pickled: {type(error).__name__}: {error}")
        return
    holds(same(_parts(copy[0]), _parts(task[0])), "the copy in another process has other samples")


@law("a benchmark's own figures are numbers")
def metrics(task: Any, _: Any) -> None:
    answers = {index: task.label(index).answer for index in range(min(3, len(task)))}
    found = task.metrics(answers)
    applies(found, "has no figures beside the mean score")
    holds(all(isinstance(value, float) for value in found.values()), f"metrics are {found}")


@law("a sample is what its label says")
def label(task: Any, index: int) -> None:
    said, sample = task.label(index), task[index]
    holds(isinstance(said, Label), f"label({index}) is {type(said).__name__}, not Label")
    holds(isinstance(sample, Sample), f"sample {index} is {type(sample).__name__}, not Sample")
    for name in Label._fields:
        one, other = getattr(said, name), getattr(sample, name)
        holds(one == other, f"sample {index} has {name} {other!r}, its label {one!r}")


@law("frames are uint8 [f h w 3], and what is said of them fits")
def frames(task: Any, index: int) -> None:
    sample = task[index]
    for medium in media_of(sample.shown):
        shown = medium.frames if isinstance(medium, Medium) else medium
        form = shown.dtype == torch.uint8 and shown.ndim in (3, 4) and shown.shape[-1] == 3
        holds(form, f"sample {index} shows {shown.dtype}{[*shown.shape]}")
        holds(min(shown.shape) > 0, f"sample {index} shows nothing: {[*shown.shape]}")
    number = len(sample.frames)
    inside = all(0 <= frame < number for frame in sample.evidence)
    holds(inside, f"sample {index} has evidence {sample.evidence} in {number} frames")
    if sample.times is not None:
        holds(len(sample.times) == number, f"sample {index}: {len(sample.times)} times")
        rising = list(sample.times) == sorted(sample.times)
        holds(rising, f"times of sample {index} do not rise: {sample.times}")


@law("asked again, a sample is the same")
def pure(task: Any, index: int) -> None:
    one = _parts(task[index])
    task[(index + 1) % len(task)]
    holds(same(one, _parts(task[index])), f"sample {index} is another one when asked again")


@law("the expected answer is one of the options")
def options(task: Any, index: int) -> None:
    sample = task[index]
    applies(sample.options, "has no options")
    holds(sample.answer in sample.options, f"sample {index} expects {sample.answer!r}")
    holds(len({*sample.options}) == len(sample.options), f"sample {index} offers an option twice")


@law("scores lie between 0 and 1, the expected answer gets 1, and silence nothing")
def score(task: Any, index: int) -> None:
    sample = task[index]
    right = float(task.score(sample.answer, sample))
    applies(not math.isnan(right), "scores are not known (nan)")
    for said in (sample.answer, "", "something else entirely", *sample.options):
        found = float(task.score(said, sample))
        holds(0 <= found <= 1, f"{said!r} scores {found} at sample {index}")
    holds(right == 1, f"sample {index} expects {sample.answer!r}, which scores {right}")
    if sample.answer.strip():
        holds(float(task.score("", sample)) < 1, f"no answer at all scores 1 at sample {index}")


@law("what could be read of an answer is one of four words")
def reading(task: Any, index: int) -> None:
    sample = task[index]
    known = (READ, EMPTY, UNPARSED, GUESSED)
    for said in (sample.answer, "", "something else entirely"):
        found = task.reading(said, sample)
        holds(found in known, f"reading({said!r}) is {found!r}: one of {[*known]}")
    holds(task.reading(" ", sample) != READ, "a blank answer counts as read")


def _parts(sample: Sample) -> tuple[Any, ...]:
    """What a sample is made of."""
    shown = [one.frames if isinstance(one, Medium) else one for one in media_of(sample.shown)]
    others = [getattr(sample, one.name) for one in fields(sample) if one.name not in HEAVY]
    return (*shown, *others)


HEAVY = ("frames", "media")
WHOLE = (length, ids, categories, fingerprint, fingerprint_of_others, sent, metrics)
EACH = (label, frames, pure, options, score, reading)
