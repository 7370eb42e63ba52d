"""What a run amounts to: outcomes of its systems to one dictionary of plain numbers.

A function of the outcomes and the seed alone, so that a run that was resumed ends with the same
bytes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tokenprune.results.answer import Outcome, System
from tokenprune.results.statistics import Estimate, Paired, Resamples, mean

ROLES = ("vanilla", "random", "own")  # the full model, the control, the strategy
_KEYS = {"own": "score", "vanilla": "vanilla_score", "random": "random_score"}
_READINGS = ("empty", "unparsed", "guessed")  # of answers that a score could not take as they stand
_TOKENS = ("full", "kept", "asked_ratio", "input_ratio", "layer_average_ratio", "decode_ratio")


def roles(systems: Sequence[System]) -> dict[str, System]:
    """The system in each role: where the strategy is itself `none` or `random`, one system plays
    several.
    """
    by_name = {system.name: system for system in systems}
    own = by_name.get("own", by_name["vanilla"])
    return {"vanilla": by_name["vanilla"], "random": by_name.get("random", own), "own": own}


def answered_by_all(systems: Sequence[System]) -> dict[str, list[Outcome]]:
    """By role, the outcomes of samples that all systems could be evaluated on: those that figures
    are made of.

    Raises ValueError where the systems were not asked the same.
    """
    lost = _lost(systems)
    return {
        role: [o for o in system.outcomes if o.index not in lost]
        for role, system in roles(systems).items()
    }


def summarise(
    systems: Sequence[System], seed: int, metrics: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Scores with intervals, measured tokens, FLOPs and times: per system, and the strategy's at
    the top.

    A score is the macro average: the mean over categories of their mean scores, however many
    samples each has. `tokens` are means over samples, `flops_ratio` a mean (see
    `flops.flops_ratio`), `time` medians over the `timed` samples: those that have times of every
    system, which reused answers have not. A sample that one system could not be evaluated on is
    left out of every figure of all systems. `metrics` are a benchmark's own figures by role, passed
    on as they are.
    """
    cast, outcomes, lost = roles(systems), answered_by_all(systems), _lost(systems)
    scores = _Scores(outcomes, seed)
    timed = _timed(outcomes)
    each = {role: _system(role, cast, outcomes[role], scores, timed) for role in ROLES}
    own = each["own"]
    return {
        "samples": len(cast["own"].outcomes),
        "errors": len(lost),
        "first_error": next(iter(lost.values()), None),
        "score": own["score"],
        "vanilla_score": each["vanilla"]["score"],
        "random_score": each["random"]["score"],
        "intervals": {role: each[role]["interval"] for role in ROLES},
        "categories": scores.categories(),
        "tokens": own["tokens"],
        "flops_ratio": own["flops_ratio"],
        "guide_flops_ratio": own["guide_flops_ratio"],
        "time": {role: each[role]["time"] for role in ROLES},
        "timed": len(timed),
        "systems": each,
        **(
            {"metrics": {role: dict(figures) for role, figures in metrics.items()}}
            if metrics
            else {}
        ),
    }


def _lost(systems: Sequence[System]) -> dict[int, str]:
    """Samples that some system could not be evaluated on, by index, with the first system's reason."""
    asked = [[outcome.index for outcome in system.outcomes] for system in systems]
    if any(indices != asked[0] for indices in asked):
        raise ValueError("the systems of a run answer the same samples in the same order")
    lost: dict[int, str] = {}
    for row in zip(*(system.outcomes for system in systems), strict=True):
        if reason := next((outcome.error for outcome in row if outcome.error is not None), None):
            lost[row[0].index] = f"{row[0].id}: {reason}"
    return lost


def _timed(outcomes: Mapping[str, Sequence[Outcome]]) -> set[int]:
    """The samples that were timed in every role, by index."""
    return set[int].intersection(*({o.index for o in outcomes[role] if o.time} for role in ROLES))


class _Scores:
    """The roles' scores side by side, of samples whose answer is known."""

    def __init__(self, outcomes: Mapping[str, Sequence[Outcome]], seed: int) -> None:
        rows = [
            row
            for row in zip(*(outcomes[role] for role in ROLES), strict=True)
            if all(outcome.score is not None for outcome in row)
        ]
        self.families = [row[0].category for row in rows]
        self.groups = [row[0].group for row in rows]
        table = np.array([[outcome.score for outcome in row] for row in rows], dtype=float)
        self.of = {role: table.reshape(-1, len(ROLES))[:, i].copy() for i, role in enumerate(ROLES)}
        self.drawn, self.seed = Resamples(self.families, seed=seed, groups=self.groups), seed

    def estimate(self, role: str) -> Estimate | None:
        return self.drawn.estimate(self.of[role]) if self.families else None

    def paired(self, role: str, baseline: str) -> Paired | None:
        return self.drawn.paired(self.of[role], self.of[baseline]) if self.families else None

    def categories(self) -> dict[str, dict[str, Any]]:
        """Per category, in order of appearance, the number of samples, each role's mean score and
        its interval.
        """
        member, found = np.array(self.families), {}
        for category in dict.fromkeys(self.families):
            inside = np.flatnonzero(member == category)
            groups = [self.groups[index] for index in inside]
            drawn = Resamples([category] * len(inside), seed=self.seed, groups=groups)
            known = {role: drawn.estimate(self.of[role][inside]) for role in _KEYS}
            found[category] = {
                "samples": len(inside),
                **{key: known[role].value for role, key in _KEYS.items()},
                "intervals": {role: estimate.interval for role, estimate in known.items()},
            }
        return found


def _system(
    role: str,
    cast: Mapping[str, System],
    outcomes: Sequence[Outcome],
    scores: _Scores,
    timed: set[int],
) -> dict[str, Any]:
    system, (score, interval) = cast[role], scores.estimate(role) or (None, None)
    times = [outcome.time for outcome in outcomes if outcome.index in timed]
    found: dict[str, Any] = {
        "label": system.label,
        "pipeline": None if system.pipeline is None else str(system.pipeline),
        "reused": system.reused,
        "refused": system.refused,
        "errors": len(system.outcomes) - len(system.answered),
        "readings": {
            kind: sum(outcome.reading == kind for outcome in outcomes) for kind in _READINGS
        },
        "score": score,
        "interval": interval,
        "difference": None,
    }
    if system is not cast["vanilla"] and (paired := scores.paired(role, "vanilla")) is not None:
        whole = scores.drawn.average(scores.of["vanilla"])
        share = 100 * found["score"] / whole if whole else None
        found["difference"] = {**_alone(paired), "percent_of_vanilla": share}
    if role == "own":
        paired = (
            None if system in (cast["random"], cast["vanilla"]) else scores.paired(role, "random")
        )
        found["against_random"] = None if paired is None else _alone(paired)
    return {
        **found,
        "unseen": sum(outcome.tokens.get("unseen_from") is not None for outcome in outcomes),
        "tokens": {
            name: mean(outcome.tokens.get(name) for outcome in outcomes) for name in _TOKENS
        },
        "flops_ratio": mean(outcome.flops_ratio for outcome in outcomes),
        "guide_flops_ratio": mean(outcome.guide_flops_ratio for outcome in outcomes),
        "time": {
            name: _median(time.get(name) for time in times)
            for name in dict.fromkeys(name for time in times for name in time)
        },
    }


def _alone(paired: Paired) -> dict[str, Any]:
    """As it is written; nothing is corrected for the number of comparisons of a run."""
    return {name: value for name, value in paired._asdict().items() if name != "p_holm"}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
