"""`noise=float32,bfloat16`: how many scores differ between two runs of the same, measured here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tokenprune.errors import ConfigError
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.jobs import FULL, SCORE, Planned
from tokenprune.reproduce.noise import Noise
from tokenprune.reproduce.work import JOBS
from tokenprune.results.answer import Answer
from tokenprune.results.read import Run
from tokenprune.storage import replace

_FILE = "noise.json"


def known(out: Path) -> Noise:
    """What was measured into this folder, else the defaults. ConfigError for another file."""
    file = out / _FILE
    if not file.is_file():
        return Noise()
    try:
        return Noise(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ConfigError(f"{file} does not say how much scores move: remove it") from None


def measure(planned: Sequence[Planned], config: ReproduceConfig, command: str) -> Noise:
    """Runs the score jobs in both precisions, and records the shares of samples that score
    otherwise: of the full model, and of compressed ones.

    ConfigError where no job needs a run of a compressed model.
    """
    from tokenprune.reproduce import scores  # heavy

    out = Path(config.out).expanduser()
    jobs = [one.job for one in planned if one.job.kind == SCORE and one.job.spec != FULL]
    if not jobs:
        raise ConfigError(
            "noise= needs scores of a compressed model that are not run yet: name a table, rows "
            "and columns that have some, or another out="
        )
    differing = {True: [0, 0], False: [0, 0]}  # of the full model or not: samples that differ, all
    for job in jobs:
        runs = []
        for dtype in config.noise:
            same = dataclasses.replace(job, words={**job.words, "dtype": dtype})
            runs.append(scores.do(same, out / JOBS / same.folder, config, command))
        for full in (True, False):
            moved, every = _moved(runs[0], runs[1], full)
            differing[full][0] += moved
            differing[full][1] += every
    (full, all_full), (compressed, all_compressed) = differing[True], differing[False]
    noise = Noise(
        full / max(1, all_full),
        compressed / max(1, all_compressed),
        f"{' against '.join(config.noise)}: {full} of {all_full} scores of the full model and "
        f"{compressed} of {all_compressed} of compressed ones differ",
    )
    replace(out / _FILE, json.dumps(dataclasses.asdict(noise), indent=1) + "\n")
    return noise


def _moved(one: Run, other: Run, full: bool) -> tuple[int, int]:
    """Samples that score otherwise in the other run, and samples that both scored."""
    role = "vanilla" if full else None
    first, second = (_scores(run.answers(role)) for run in (one, other))
    both = first.keys() & second.keys()
    return sum(first[index] != second[index] for index in both), len(both)


def _scores(answers: Sequence[Answer]) -> dict[int, float]:
    return {answer.index: answer.score for answer in answers if answer.score is not None}
