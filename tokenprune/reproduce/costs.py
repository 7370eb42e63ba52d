"""What jobs would cost, before anything is loaded: `plan=true`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.reproduce.available import here, lacking
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.jobs import FULL, SCORE, Job, Planned
from tokenprune.reproduce.models import models
from tokenprune.reproduce.protocol import JUDGED, Benchmark

# one user's log of VideoMME: LLaVA-OneVision-7B, 32 frames, one GPU, an answer of one letter
_SECONDS, _GIGABYTES, _FRAMES = 4.8, 16.1, 32
_VIDEO = 1.5  # of it: reading the file, the same for every model
_TOKEN = 0.042  # seconds for each further token, DyCoke Table 4
_BENCH = 0.1  # hours of a speed job: loading, and a few turns of four systems


@dataclass(frozen=True)
class Cost:
    """What a job would cost.

    Args:
        samples: that are answered; the strategy and the random control both answer each
        hours: on one GPU, from one user's log (see `_SECONDS`); None where samples are not known
        gigabytes: of weights that would be downloaded, 16 bits each
        calls: of a judge
        lacks: why it cannot run now; None if it can
    """

    samples: int
    hours: float | None
    gigabytes: float
    calls: int
    lacks: str | None


def cost(planned: Planned, known: Benchmark | None, config: ReproduceConfig) -> Cost:
    """`known`: the task of a score in its protocol."""
    job = planned.job
    missing = sum(_gigabytes(name) for name in _names(job) if not here(name))
    lacks = lacking(job, config)
    if job.kind != SCORE:
        return Cost(0, _BENCH, missing, 0, lacks)
    n = 0 if known is None else known.n
    samples = min(n, config.limit) if config.limit and n else config.limit or n
    systems = 1 if job.spec == FULL else 2
    hours = systems * samples * _seconds(job, known) / 3600 if samples else None
    calls = systems * samples if job.judged else 0
    return Cost(samples, hours, missing, calls, lacks)


def _seconds(job: Job, known: Benchmark | None) -> float:
    """Of one question."""
    size = _gigabytes(str(job.words["model"])) or _GIGABYTES
    frames = float(job.words.get("frames") or _FRAMES) / _FRAMES
    answering = (_SECONDS - _VIDEO) * size / _GIGABYTES
    words = 1.0  # a letter is one token
    if known is not None and known.kind == JUDGED and known.tokens is not None:
        words = known.tokens / 4  # how long descriptions become is not known before
    return frames * (_VIDEO + answering) + words * _TOKEN


def _names(job: Job) -> list[str]:
    found = [job.words.get("model"), job.words.get("assistant")]
    return [str(name) for name in found if name is not None]


def _gigabytes(name: str) -> float:
    known = models().get(name)
    return 0.0 if known is None else known.gigabytes


def together(costs: Sequence[tuple[Planned, Cost]]) -> Cost:
    """Of all jobs; weights that several need are counted once."""
    wanted = {
        name: _gigabytes(name)
        for planned, _ in costs
        for name in _names(planned.job)
        if not here(name)
    }
    hours = [one.hours for _, one in costs]
    return Cost(
        sum(one.samples for _, one in costs),
        None if None in hours else sum(hour for hour in hours if hour is not None),
        sum(wanted.values()),
        sum(one.calls for _, one in costs),
        None,
    )
