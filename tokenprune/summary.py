"""What a run amounts to: outcomes of its systems to one dictionary of plain numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from tokenprune.outcome import Outcome, System

_DRAWS = 4000  # resamples of a bootstrap
_FEW = 5  # below so many scores a category may show no spread by luck
ROLES = ("vanilla", "random", "own")  # the full model, the control, the strategy


def roles(systems: Sequence[System]) -> dict[str, System]:
    """The system in each role: where the strategy is itself `none` or `random`, one system plays several."""
    by_name = {system.name: system for system in systems}
    own = by_name.get("own", by_name["vanilla"])
    return {"vanilla": by_name["vanilla"], "random": by_name.get("random", own), "own": own}


def summarise(systems: Sequence[System], seed: int) -> dict[str, Any]:
    """Scores with intervals, measured tokens, FLOPs and times: per system, and the strategy's at the top.

    A score is the macro average: the mean over categories of their mean scores, however many samples each has.
    `tokens` are means over samples, `time` medians over samples, `flops_ratio` a mean (see `flops.flops_ratio`).
    """
    cast = roles(systems)
    each = {role: _system(system, seed) for role, system in cast.items()}
    own = each["own"]
    return {
        "samples": len(cast["own"].outcomes),
        "score": own["score"],
        "vanilla_score": each["vanilla"]["score"],
        "random_score": each["random"]["score"],
        "intervals": {role: each[role]["interval"] for role in ROLES},
        "categories": _categories(cast, seed),
        "tokens": own["tokens"],
        "flops_ratio": own["flops_ratio"],
        "guide_flops_ratio": own["guide_flops_ratio"],
        "time": {role: each[role]["time"] for role in ROLES},
        "systems": each,
    }


def interval(scores: Sequence[float], seed: int) -> list[float] | None:
    """95 % interval of the mean of `scores`: that of a macro average over one category."""
    return macro_interval([scores], seed)


def macro_interval(groups: Sequence[Sequence[float]], seed: int) -> list[float] | None:
    """95 % interval of the mean of the groups' means; None where the scores cannot tell.

    Wilson's for one group of zeros and ones. Else a percentile bootstrap within groups, which draws n - 1 of a group's
    n scores because n of them would vary too little. It cannot tell with groups below five, or without any spread.
    """
    if not groups or not all(groups):
        return None
    if len(groups) == 1 and set(groups[0]) <= {0.0, 1.0}:
        wilson = binomtest(round(sum(groups[0])), len(groups[0])).proportion_ci(0.95, method="wilson")
        return [float(wilson.low), float(wilson.high)]
    if min(map(len, groups)) < _FEW or all(len(set(scores)) == 1 for scores in groups):
        return None
    rng = np.random.default_rng(seed)
    means = np.zeros(_DRAWS)
    for scores in groups:
        drawn = rng.integers(len(scores), size=(_DRAWS, len(scores) - 1))
        means += np.asarray(scores)[drawn].mean(1)
    low, high = np.quantile(means / len(groups), [0.025, 0.975])
    return [float(low), float(high)]


def _system(system: System, seed: int) -> dict[str, Any]:
    outcomes = system.outcomes
    reports = [outcome.report for outcome in outcomes]
    decode = [report.decode_ratio for report in reports if report.decode_ratio is not None]
    return {
        "label": system.label,
        "pipeline": str(system.pipeline),
        "score": system.score,
        "interval": macro_interval(list(_by_category(outcomes).values()), seed),
        "tokens": {
            "full": statistics.fmean(report.full for report in reports),
            "kept": statistics.fmean(report.kept for report in reports),
            "asked_ratio": statistics.fmean(report.asked for report in reports),
            "input_ratio": statistics.fmean(report.input_ratio for report in reports),
            "layer_average_ratio": statistics.fmean(report.layer_average_ratio for report in reports),
            "decode_ratio": statistics.fmean(decode) if decode else None,
        },
        "flops_ratio": statistics.fmean(outcome.flops_ratio for outcome in outcomes),
        "guide_flops_ratio": statistics.fmean(outcome.guide_flops_ratio for outcome in outcomes),
        "time": {name: _median(outcome.time[name] for outcome in outcomes) for name in outcomes[0].time},
    }


def _by_category(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Scores by category, in order of appearance; nothing where nothing was scored."""
    found: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.score is not None:
            found.setdefault(outcome.category, []).append(outcome.score)
    return found


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _categories(cast: Mapping[str, System], seed: int) -> dict[str, dict[str, Any]]:
    """Per category the number of samples, and each role's mean score and its interval."""
    found: dict[str, dict[str, Any]] = {}
    for role, key in (("own", "score"), ("vanilla", "vanilla_score"), ("random", "random_score")):
        for category, scores in _by_category(cast[role].outcomes).items():
            row = found.setdefault(category, {"samples": len(scores), "intervals": {}})
            row[key] = statistics.fmean(scores)
            row["intervals"][role] = interval(scores, seed)
    return found
