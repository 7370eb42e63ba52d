"""What was measured of each guide, with intervals, and which setting the figures support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from experiments.guide.costs import Cost
from experiments.guide.measure import NONE, RANDOM
from experiments.guide.settings import HOST, PAPER, SELF, Setting
from tokenprune.results.statistics import Estimate, Paired, Resamples, holm
from tokenprune.study.keyframes import NEEDLE
from tokenprune.tasks.tinyvqa import TinyVQA

CONTROLS = (NONE, RANDOM, HOST)
CHEAP = 0.25  # of the paper's probe, that a recommended one costs at most


@dataclass(frozen=True)
class Found:
    """One guide."""

    setting: Setting
    cost: Cost
    rank: Estimate  # mean reciprocal rank of the needle's frame
    rank_change: Paired | None  # to the paper's setting; None: it is that
    score: Estimate
    score_change: Paired | None
    kept: float  # share of the visual tokens, mean over layers


@dataclass(frozen=True)
class Control:
    """The same question without a guide."""

    name: str
    score: Estimate
    kept: float


@dataclass(frozen=True)
class Findings:
    """All guides on the same samples."""

    guides: Sequence[Found]
    controls: Sequence[Control]
    keep: float
    samples: int
    needles: int
    categories: int
    frames: int
    seed: int
    chance: float  # of the rank

    @property
    def paper(self) -> Found:
        return next(one for one in self.guides if one.setting == PAPER)

    @property
    def recommended(self) -> Found | None:
        """By a rule that was fixed when ranks were known, and scores of a trial of 30 samples.

        Of the guides that need no second model and cost at most CHEAP of the paper's probe, the one
        that finds needles best; None where it scores reliably below the paper's setting. Needles
        are others than the samples that are scored, so that who is chosen is not judged by the
        figures that chose it.
        """
        most = CHEAP * self.paper.cost.of_prefill
        cheap = [
            one for one in self.guides if one.setting.guide == SELF and one.cost.of_prefill <= most
        ]
        best = max(cheap, key=lambda one: (one.rank.value, -one.cost.of_prefill), default=None)
        if best is None or (best.score_change is not None and best.score_change.sign == -1):
            return None
        return best


def findings(
    task: TinyVQA,
    settings: Sequence[Setting],
    scores: Mapping[str | Setting, Float[np.ndarray, "n 2"]],
    ranks: Mapping[str | Setting, Float[np.ndarray, "k"]],
    costs: Sequence[Cost],
    keep: float,
) -> Findings:
    """`scores` have a column of scores and one of kept shares."""
    categories = [task.label(index).category for index in range(len(task))]
    drawn = Resamples(categories, seed=task.seed)
    needles = Resamples([NEEDLE] * len(ranks[PAPER]), seed=task.seed)
    nothing = np.zeros(len(ranks[PAPER]))
    others = [one for one in settings if one != PAPER]
    own, rank = scores[PAPER][:, 0], ranks[PAPER]
    changes = dict(
        zip(others, holm([drawn.paired(scores[one][:, 0], own) for one in others]), strict=True)
    )
    moved = dict(
        zip(others, holm([needles.paired(ranks[one], rank) for one in others]), strict=True)
    )
    guides = [
        Found(
            one,
            cost,
            Estimate(*needles.paired(ranks[one], nothing)[:2]),
            moved.get(one),
            drawn.estimate(scores[one][:, 0]),
            changes.get(one),
            float(scores[one][:, 1].mean()),
        )
        for one, cost in zip(settings, costs, strict=True)
    ]
    controls = [
        Control(name, drawn.estimate(scores[name][:, 0]), float(scores[name][:, 1].mean()))
        for name in CONTROLS
    ]
    return Findings(
        guides,
        controls,
        keep,
        len(task),
        len(rank),
        len(set(categories)),
        task.frames,
        task.seed,
        float(ranks["chance"].mean()),
    )
