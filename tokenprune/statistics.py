"""Macro averages, their intervals, and comparisons of systems that answered the same samples.

A macro average is the mean over families (a task's categories) of their mean scores. Intervals are 95 %. Every
comparison is paired by sample: what makes a sample hard for both systems cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy.stats import binomtest

FEW = 5  # samples of a family below which it may show no spread by luck
DRAWS = 4000  # resamples of a run's intervals
_TAILS = (0.025, 0.975)
_BLOCK = 4 << 20  # drawn counts that are in memory as full integers at a time
_EXACT = 12  # decimals of an average beyond which there is only rounding


class Estimate(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 if the interval lies above 0, -1 if below, 0 if it contains 0."""
        return int(self.low > 0) - int(self.high < 0)

    def above(self, other: Estimate) -> bool:
        """Whether the whole interval lies above the whole interval of `other`."""
        return self.low > other.high


class Paired(NamedTuple):
    """How much higher one system scores than another on the same samples."""

    value: float  # of the macro averages
    interval: list[float] | None  # 95 %; None where the samples cannot tell
    mcnemar_p: float | None  # see `mcnemar`


class Resamples:
    """The weights under which scores make a macro average, and `number` resamplings of them (Efron, 1979).

    Samples are drawn anew within each family, the same for all systems; so paired comparisons need nothing more: a
    difference of averages is the average of differences. A family of n samples is resampled with n - 1 draws, because
    n would vary too little by a factor of (n - 1) / n.
    """

    def __init__(self, families: Sequence[str] | Sequence[int], number: int = 10_000, seed: int = 0) -> None:
        names, member = np.unique(np.asarray(families), return_inverse=True)
        self._members = [np.flatnonzero(member == index) for index in range(len(names))]
        self._shape, self._seed = (number, len(member)), seed

    @cached_property
    def _counts(self) -> UInt8[np.ndarray, "draws n"]:
        """How often each resampling drew each sample; drawn when first needed.

        In bytes: 40 MB for 4,000 resamplings of 10,000 samples. That one is drawn 256 times has a chance below 1e-500.
        """
        generator = np.random.default_rng(self._seed)
        counts = np.empty(self._shape, np.uint8)
        for inside in self._members:
            size = len(inside)
            step = max(1, _BLOCK // size)
            for begin in range(0, self._shape[0], step):
                rows = min(step, self._shape[0] - begin)
                drawn = generator.multinomial(max(1, size - 1), np.full(size, 1 / size), size=rows)
                counts[begin : begin + rows, inside] = drawn
        return counts

    def average(self, scores: Float[np.ndarray, "n"]) -> float:
        """The macro average of `scores`."""
        return float(np.mean([scores[inside].mean() for inside in self._members]))

    def estimate(self, scores: Float[np.ndarray, "n"]) -> Estimate:
        """The macro average of `scores` with its percentile interval."""
        weighted = np.empty(self._shape[1])
        for inside in self._members:
            weighted[inside] = scores[inside] / (max(1, len(inside) - 1) * len(self._members))
        # einsum and not @: the order of its sums does not depend on threads, and it makes no copy of the counts.
        # What is equal must not differ by rounding, or an interval that ends at 0 would exclude it.
        means = np.round(np.einsum("ij,j->i", self._counts, weighted), _EXACT) + 0.0
        low, high = np.quantile(means, _TAILS)
        return Estimate(self.average(scores), float(low), float(high))

    def interval(self, scores: Float[np.ndarray, "n"]) -> list[float] | None:
        """The interval of a macro average; None where the scores cannot tell.

        Wilson's (1927) for one family of zeros and ones, else the bootstrap's. It cannot tell where a family has fewer
        than five samples, or where no family shows any spread.
        """
        if len(self._members) == 1 and _right_or_wrong(scores):
            wilson = binomtest(round(float(scores.sum())), len(scores)).proportion_ci(0.95, method="wilson")
            return [float(wilson.low), float(wilson.high)]
        if self._few() or self._flat(scores):
            return None
        return list(self.estimate(scores)[1:])

    def paired(self, scores: Float[np.ndarray, "n"], baseline: Float[np.ndarray, "n"]) -> Paired:
        """How much higher `scores` are than `baseline`.

        Without an interval where a family has fewer than five samples, and where every sample of a family changed by
        the same amount, unless that is 0 everywhere: then there is no difference, [0, 0].
        """
        value, change = self.average(scores) - self.average(baseline), scores - baseline
        told = not self._few() and (not change.any() or not self._flat(change))
        return Paired(value, list(self.estimate(change)[1:]) if told else None, mcnemar(scores, baseline))

    def _few(self) -> bool:
        return min(map(len, self._members), default=0) < FEW

    def _flat(self, scores: Float[np.ndarray, "n"]) -> bool:
        return all(np.ptp(scores[inside]) == 0 for inside in self._members)


def mcnemar(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"]) -> float | None:
    """Two-sided p of McNemar's (1947) exact test: as many samples right in `first` alone as in `second` alone.

    It counts samples, so all of them weigh the same, whatever their families. None for scores other than 0 and 1.
    """
    if not len(first) or not (_right_or_wrong(first) and _right_or_wrong(second)):
        return None
    alone = int((first > second).sum())
    discordant = int((first != second).sum())
    return float(binomtest(alone, discordant).pvalue) if discordant else 1.0


def interval(scores: Sequence[float], seed: int) -> list[float] | None:
    """95 % interval of the mean of `scores`: that of a macro average over one family."""
    return macro_interval([scores], seed)


def macro_interval(groups: Sequence[Sequence[float]], seed: int) -> list[float] | None:
    """95 % interval of the mean of the groups' means, as `Resamples.interval`."""
    if not groups or not all(groups):
        return None
    families = [index for index, scores in enumerate(groups) for _ in scores]
    scores = np.array([score for group in groups for score in group], dtype=float)
    return Resamples(families, DRAWS, seed).interval(scores)


def _right_or_wrong(scores: Float[np.ndarray, "n"]) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())


def points(value: float) -> str:
    """`+3.1`: a difference in points of a hundred."""
    return f"{100 * value:+.1f}"


def within(interval: Sequence[float] | None) -> str:
    """`[+0.4, +5.8]`: a difference's interval in points, or nothing."""
    return "" if interval is None else "[{}, {}]".format(*map(points, interval))


def probability(p: float) -> str:
    """`p=0.041`."""
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"


def verdict(interval: Sequence[float] | None, other: str) -> str:
    """What a difference's interval says, in words."""
    if interval is None:
        return "the samples give no interval to tell them apart"
    low, high = interval
    return f"above {other}" if low > 0 else f"below {other}" if high < 0 else "the interval does not tell them apart"
