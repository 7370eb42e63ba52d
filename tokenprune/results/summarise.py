"""Answers of a run's systems to its summary.

A function of the answers and the seed alone, so that a run that was resumed ends with the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokenprune.results import columns
from tokenprune.results.answer import RANDOM, ROLES, STRATEGY, VANILLA, Answer
from tokenprune.results.statistics import Estimate, Paired, Resamples
from tokenprune.results.summary import CategorySummary, Setting, Summary, SystemSummary
from tokenprune.results.system import System


def answered_by_all(systems: Sequence[System]) -> dict[str, list[Answer]]:
    """By role, the answers to samples that all systems could be evaluated on: figures are of these.

    Raises ValueError where the systems were not asked the same.
    """
    lost = _lost(systems)
    by_name = {system.name: system for system in systems}
    return {
        role: [answer for answer in by_name[role].answers if answer.index not in lost]
        for role in ROLES
        if role in by_name
    }


def summarise(
    systems: Sequence[System],
    setting: Setting,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> Summary:
    """Scores with intervals, and what was measured, of any systems of one run.

    A score is the macro average: the mean over categories of their mean scores, however many
    samples each has. A sample that one system could not be evaluated on is left out of every figure
    of all systems.
    """
    answers, lost = answered_by_all(systems), _lost(systems)
    scores, timed = _Scores(answers, setting.seed), _timed(answers)
    by_name = {system.name: system for system in systems}
    return Summary(
        setting,
        samples=len(systems[0].answers),
        errors=len(lost),
        first_error=next(iter(lost.values()), None),
        timed=len(timed),
        systems={role: _system(by_name[role], answers[role], scores, timed) for role in answers},
        categories=scores.categories(),
        metrics=metrics or {},
    )


def _lost(systems: Sequence[System]) -> dict[int, str]:
    """Samples that some system could not be evaluated on, by index, and the first reason."""
    asked = [[answer.index for answer in system.answers] for system in systems]
    if any(indices != asked[0] for indices in asked):
        raise ValueError("the systems of a run answer the same samples in the same order")
    lost: dict[int, str] = {}
    for row in zip(*(system.answers for system in systems), strict=True):
        reasons = [answer.error for answer in row if answer.error is not None]
        if reasons:
            lost[row[0].index] = f"{row[0].id}: {reasons[0]}"
    return lost


def _timed(answers: Mapping[str, Sequence[Answer]]) -> set[int]:
    """The samples that were timed in every role, by index; reused answers have no times."""
    timed = [{answer.index for answer in own if answer.time} for own in answers.values()]
    return set.intersection(*timed)


class _Scores:
    """The roles' scores side by side, of samples whose answer is known."""

    def __init__(self, answers: Mapping[str, Sequence[Answer]], seed: int) -> None:
        rows = [
            row
            for row in zip(*answers.values(), strict=True)
            if all(answer.score is not None for answer in row)
        ]
        self.names = [row[0].category for row in rows]
        self.groups = [row[0].group for row in rows]
        table = np.array([[answer.score for answer in row] for row in rows], dtype=float)
        sides = table.reshape(-1, len(answers)).T
        self.of = {role: side.copy() for role, side in zip(answers, sides, strict=True)}
        self.drawn, self.seed = Resamples(self.names, seed=seed, groups=self.groups), seed

    def estimate(self, role: str) -> Estimate | None:
        return self.drawn.estimate(self.of[role]) if self.names else None

    def paired(self, role: str, baseline: str) -> Paired | None:
        """None where one of the two is not there."""
        if not self.names or baseline not in self.of:
            return None
        return self.drawn.paired(self.of[role], self.of[baseline])

    def share(self, role: str) -> float | None:
        """Of the full model's score; None where that is 0."""
        whole = self.drawn.average(self.of[VANILLA])
        return self.drawn.average(self.of[role]) / whole if whole else None

    def categories(self) -> dict[str, CategorySummary]:
        """In order of appearance."""
        member, found = np.array(self.names), {}
        for category in dict.fromkeys(self.names):
            inside = np.flatnonzero(member == category)
            groups = [self.groups[index] for index in inside]
            drawn = Resamples([category] * len(inside), seed=self.seed, groups=groups)
            scores = {role: drawn.estimate(side[inside]) for role, side in self.of.items()}
            found[category] = CategorySummary(len(inside), scores)
        return found


def _system(
    system: System, answers: Sequence[Answer], scores: _Scores, timed: set[int]
) -> SystemSummary:
    role = system.name
    to_vanilla = None if role == VANILLA else scores.paired(role, VANILLA)
    return SystemSummary(
        label=system.label,
        pipeline=None if system.pipeline is None else str(system.pipeline),
        reused=system.reused,
        refused=system.refused,
        samples=len(system.answers),
        errors=len(system.answers) - len(system.answered),
        score=scores.estimate(role),
        to_vanilla=to_vanilla,
        share_of_vanilla=None if to_vanilla is None else scores.share(role),
        to_random=scores.paired(role, RANDOM) if role == STRATEGY else None,
        measured=_measured(answers, timed),
    )


def _measured(answers: Sequence[Answer], timed: set[int]) -> dict[str, float | int | None]:
    """By column, over all answers or, of times, over those to samples that were timed."""
    in_time = [answer for answer in answers if answer.index in timed]
    found: dict[str, float | int | None] = {}
    for column in columns.measured():
        assert column.of is not None
        counted = in_time if column.averaged == "median" else answers
        found[column.name] = columns.AVERAGES[column.averaged](map(column.of, counted))
    return found
