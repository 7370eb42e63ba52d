"""What a run amounts to: outcomes of its systems to one dictionary of plain numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap

from tokenprune.outcome import Outcome, System

ROLES = ("vanilla", "random", "own")  # the full model, the control, the strategy


def roles(systems: Sequence[System]) -> dict[str, System]:
    """The system in each role: where the strategy is itself `none` or `random`, one system plays several."""
    by_name = {system.name: system for system in systems}
    own = by_name.get("own", by_name["vanilla"])
    return {"vanilla": by_name["vanilla"], "random": by_name.get("random", own), "own": own}


def summarise(systems: Sequence[System], seed: int) -> dict[str, Any]:
    """Scores with intervals, measured tokens, FLOPs and times: per system, and the strategy's at the top.

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
        "categories": _categories(cast),
        "tokens": own["tokens"],
        "flops_ratio": own["flops_ratio"],
        "guide_flops_ratio": own["guide_flops_ratio"],
        "time": {role: each[role]["time"] for role in ROLES},
        "systems": each,
    }


def interval(scores: Sequence[float], seed: int) -> list[float] | None:
    """95 % interval of the mean: Wilson's for scores of 0 and 1, else a percentile bootstrap; None without spread."""
    if not scores:
        return None
    if set(scores) <= {0.0, 1.0}:
        wilson = binomtest(round(sum(scores)), len(scores)).proportion_ci(0.95, method="wilson")
        return [float(wilson.low), float(wilson.high)]
    if len(set(scores)) == 1:
        return None
    drawn = bootstrap((np.asarray(scores),), np.mean, method="percentile", rng=np.random.default_rng(seed))
    return [float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)]


def _system(system: System, seed: int) -> dict[str, Any]:
    outcomes = system.outcomes
    reports = [outcome.report for outcome in outcomes]
    decode = [report.decode_ratio for report in reports if report.decode_ratio is not None]
    return {
        "label": system.label,
        "pipeline": str(system.pipeline),
        "score": system.score,
        "interval": interval(_scores(outcomes), seed),
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


def _scores(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.score for outcome in outcomes if outcome.score is not None]


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _categories(cast: Mapping[str, System]) -> dict[str, dict[str, Any]]:
    """Scores by category, in order of appearance; nothing where nothing was scored."""
    found: dict[str, dict[str, Any]] = {}
    for role, key in (("own", "score"), ("vanilla", "vanilla_score"), ("random", "random_score")):
        for category in dict.fromkeys(outcome.category for outcome in cast[role].outcomes):
            scores = _scores([outcome for outcome in cast[role].outcomes if outcome.category == category])
            if scores:
                found.setdefault(category, {"samples": len(scores)})[key] = statistics.fmean(scores)
    return found
