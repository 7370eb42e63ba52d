"""Two finished runs side by side, paired by sample: `tokenprune compare runs/a runs/b`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenprune.errors import ConfigError
from tokenprune.results.answer import Answer
from tokenprune.results.columns import named
from tokenprune.results.differences import apart
from tokenprune.results.read import Run, read_run
from tokenprune.results.statistics import Paired, Resamples, mean
from tokenprune.results.summary import Summary

_SAME = ("task", "model", "assistant", "frames")  # what two runs usually share
WHOLE = "all"  # the row of the score: the mean over categories
RATIOS = ("input_ratio", "layer_average_ratio", "decode_ratio", "flops_ratio")  # columns


@dataclass(frozen=True)
class Row:
    """One category, or all of them, over the samples that both runs answered."""

    category: str
    samples: int
    first: float
    second: float
    change: Paired  # of the second over the first


@dataclass(frozen=True)
class Comparison:
    """Two runs on the samples they share."""

    folders: tuple[Path, Path]
    labels: tuple[str, str]
    samples: int  # that both answered
    rows: tuple[Row, ...]  # by category, the score of all last; none where no answer is scored
    # tokens and FLOPs by column, fractions of the full model's
    ratios: dict[str, tuple[float | None, float | None]]
    warnings: tuple[str, ...]


def compare(folders: tuple[Path, Path]) -> Comparison:
    """Two finished runs on the samples that both answered. Raises ConfigError, OSError."""
    runs = [read_run(folder) for folder in folders]
    summaries = [run.summary for run in runs]
    first, second = (_by_id(run) for run in runs)
    shared = [name for name in first if name in second and _same(first[name], second[name])]
    if not shared:
        tasks = " and ".join(str(one.setting.task or one.setting.video) for one in summaries)
        raise ConfigError(
            f"{folders[0]} and {folders[1]} share no sample (they ran on {tasks}): "
            "compare runs with the same task=, samples=, frames= and seed="
        )
    pairs = [(first[name], second[name]) for name in shared]
    answered = [(a, b) for a, b in pairs if a.error is None and b.error is None]
    seeds = {summary.setting.seed for summary in summaries}
    # resampled here as it was there
    seed = seeds.pop() if len(seeds) == 1 else 0
    warnings = [
        *_differences(*summaries),
        *_missing(folders, (len(first), len(second)), len(shared), len(answered)),
    ]
    return Comparison(
        folders,
        (summaries[0].subject.label, summaries[1].subject.label),
        len(answered),
        _rows(answered, seed),
        _ratios(answered),
        tuple(warnings),
    )


def _by_id(run: Run) -> dict[str, Answer]:
    """What the run's subject answered, by sample id."""
    answers = run.answers()
    found = {answer.id: answer for answer in answers}
    if len(found) < len(answers):
        raise ConfigError(
            f"{run.folder} names a sample twice, so samples cannot be paired: run it again"
        )
    return found


def _same(first: Answer, second: Answer) -> bool:
    """Whether two answers with one id are to one sample."""
    keys = ("category", "question", "options", "answer")
    return all(getattr(first, key) == getattr(second, key) for key in keys)


def _differences(first: Summary, second: Summary) -> Iterator[str]:
    for key in _SAME:
        one, other = (getattr(summary.setting, key) for summary in (first, second))
        if one != other:
            yield f"{key} differs: {one} and {other}; the difference is not the strategy's alone"
    yield from apart(first, second)


def _missing(
    folders: Sequence[Path], sizes: Sequence[int], shared: int, answered: int
) -> Iterator[str]:
    for folder, size in zip(folders, sizes, strict=True):
        if shared < size:
            yield (
                f"only {shared} of the {size} samples of {folder} are in both runs; the "
                "others are left out"
            )
    if answered < shared:
        yield (
            f"{shared - answered} of {shared} shared samples could not be evaluated in one of "
            "the runs: left out"
        )


def _rows(pairs: Sequence[tuple[Answer, Answer]], seed: int) -> tuple[Row, ...]:
    scored = [(a, b) for a, b in pairs if a.score is not None and b.score is not None]
    if not scored:
        return ()
    categories = np.array([a.category for a, _ in scored])
    groups = np.array([a.group or b.group for a, b in scored], dtype=object)
    table = np.array([(a.score, b.score) for a, b in scored], dtype=float)
    rows = []
    for category in (*dict.fromkeys(categories.tolist()), WHOLE):
        inside = np.full(len(scored), True) if category is WHOLE else categories == category
        drawn = Resamples(categories[inside].tolist(), seed=seed, groups=groups[inside].tolist())
        a, b = table[inside].T.copy()
        rows.append(Row(category, len(a), drawn.average(a), drawn.average(b), drawn.paired(b, a)))
    return tuple(rows)


def _ratios(
    pairs: Sequence[tuple[Answer, Answer]],
) -> dict[str, tuple[float | None, float | None]]:
    """Means over the samples, by column."""
    found = {}
    for column in named(*RATIOS):
        assert column.of is not None
        sides = zip(*((column.of(a), column.of(b)) for a, b in pairs), strict=True)
        first, second = sides if pairs else ((), ())
        found[column.name] = mean(first), mean(second)
    return found
