"""How much of a method's difference to `random` its choice of evidence explains.

Three steps lead from `random` to the method, each of them an answer of the model to the same
question: first the evidence is what the method keeps of it and everything else stays random; then
all tokens are the method's, but each as itself; last comes the method, with what it merges,
reorders, hides while it decodes, or drops in a later layer only. They add up to the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from experiments.evidence.answers import Answers
from experiments.evidence.cases import Case, Material, Outcome
from experiments.evidence.select import Dose, Mask, dosed, transplanted
from tokenprune.results.statistics import Estimate, Paired, Resamples, holm

DOSES = [Dose(share) for share in (0.0, 0.1, 0.25, 0.5, 1.0)]
TOGETHER = [Dose(share, together=True) for share in (0.25, 0.5)]
BRIEF = 2  # frames
Scores = Float[np.ndarray, "n"]


@dataclass(frozen=True)
class Kept:
    """Shares, macro averages over categories."""

    tokens: float
    evidence: float
    frames: float  # of those that show evidence, those that still do
    # of the samples with evidence in at most BRIEF frames, those with any left; None: no such
    brief: float | None


@dataclass(frozen=True)
class Baseline:
    """`random` at one budget."""

    control: Outcome
    kept: Kept
    score: Estimate


@dataclass(frozen=True)
class Dosed:
    """As many tokens as `random` keeps at one budget, with evidence on purpose."""

    control: Outcome
    dose: Dose
    kept: Kept
    score: Estimate


@dataclass(frozen=True)
class Effect:
    """A method against `random`, in all and by steps."""

    case: Case
    kept: Kept
    score: Estimate
    steps: dict[str, Paired]  # by STEPS


TOTAL, EVIDENCE, CELLS, REST = STEPS = ("to_random", "by_evidence", "by_others", "by_rest")


@dataclass(frozen=True)
class Study:
    """The samples with their evidence, and what is asked about them."""

    found: Material
    evidence: Bool[np.ndarray, "n f c"]
    answers: Answers

    @cached_property
    def drawn(self) -> Resamples:
        return Resamples(self.found.categories, seed=self.found.task.seed)

    def kept(self, masks: Bool[np.ndarray, "n f c"]) -> Kept:
        """How much is left under `masks`."""
        left = self.evidence & masks
        shows, still = self.evidence.any(2).sum(1), left.any(2).sum(1)
        brief = shows <= BRIEF
        average = self.drawn.average
        return Kept(
            tokens=average(masks.mean((1, 2))),
            evidence=average(left.sum((1, 2)) / self.evidence.sum((1, 2))),
            frames=average(still / shows),
            brief=float((still[brief] > 0).mean()) if brief.any() else None,
        )

    def baselines(self) -> list[Baseline]:
        """Of every budget."""
        return [
            Baseline(control, self.kept(control.kept), self.drawn.estimate(control.scores))
            for control in self.found.controls
        ]

    def measure(self) -> tuple[list[Dosed], list[Effect]]:
        """All doses and methods at all budgets; the model is asked once for everything."""
        doses = (*DOSES, *TOGETHER)
        arms = [(control, dose) for control in self.found.controls for dose in doses]
        masks = [self._dosed(control, dose) for control, dose in arms]
        swapped = [self._transplanted(case) for case in self.found.cases]
        own = [list(case.own.kept) for case in self.found.cases]
        scores = self._scores([*masks, *swapped, *own])
        dosed_arms = [
            Dosed(control, dose, self.kept(np.stack(mask)), self.drawn.estimate(made))
            for (control, dose), mask, made in zip(arms, masks, scores, strict=False)
        ]
        first = len(arms) + len(swapped)
        return dosed_arms, self._effects(scores[len(arms) : first], scores[first:])

    def _effects(self, swapped: Sequence[Scores], own: Sequence[Scores]) -> list[Effect]:
        """Of every method at every budget, corrected for their number step by step."""
        cases = self.found.cases
        levels = [
            (case.control.scores, first, second, case.own.scores)
            for case, first, second in zip(cases, swapped, own, strict=True)
        ]
        columns = [
            holm([self.drawn.paired(level[after], level[before]) for level in levels])
            for before, after in ((0, 3), (0, 1), (1, 2), (2, 3))
        ]
        return [
            Effect(
                case,
                self.kept(case.own.kept),
                self.drawn.estimate(case.own.scores),
                dict(zip(STEPS, steps, strict=True)),
            )
            for case, *steps in zip(cases, *columns, strict=True)
        ]

    def _dosed(self, control: Outcome, dose: Dose) -> list[Mask]:
        rows = zip(self.found.indices, self.evidence, control.kept, strict=True)
        return [dosed(shows, dose, kept.sum(1), index) for index, shows, kept in rows]

    def _transplanted(self, case: Case) -> list[Mask]:
        rows = zip(self.found.indices, self.evidence, case.own.kept, case.control.kept, strict=True)
        return [transplanted(shows, own, control, index) for index, shows, own, control in rows]

    def _scores(self, arms: Sequence[Sequence[Mask]]) -> list[Scores]:
        """Of every arm, all samples."""
        indices = self.found.indices
        wanted = [pair for masks in arms for pair in zip(indices, masks, strict=True)]
        flat = np.array(self.answers.scores(wanted))
        return list(flat.reshape(len(arms), len(indices)))
