"""Macro averages, their intervals, and comparisons of systems that answered the same samples.

A macro average is the mean over categories of their mean scores. Intervals are
95 %. Every comparison is paired by sample: what makes a sample hard for both systems cancels.

What may be claimed is decided here alone: runs, sweeps, studies and comparisons print an `Estimate`
or a `Paired` as it is. Where the samples cannot tell, it has no interval and no p, and claims
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

FEW = 5  # groups of a category below which it may show no spread by luck
DRAWS = 10_000  # resamples; the same everywhere, so that the same records give the same interval
LEVEL = 0.05  # of a claim, after correction
_TAILS = (LEVEL / 2, 1 - LEVEL / 2)
_BLOCK = 4 << 20  # drawn counts that are in memory as full integers at a time
_EXACT = 12  # decimals of an average beyond which there is only rounding


class Estimate(NamedTuple):
    """A macro average."""

    value: float
    interval: list[float] | None  # 95 %; None where the samples cannot tell


class Paired(NamedTuple):
    """How much higher one system scores than another on the same samples."""

    value: float  # of the macro averages
    interval: list[float] | None  # 95 %; None where the samples cannot tell
    p: float | None  # of the bootstrap, two-sided; None where there is no interval
    mcnemar_p: float | None  # see `mcnemar`; None where several samples are about one video
    p_holm: float | None = None  # `p` after `holm`; None where this is the only comparison

    @property
    def sign(self) -> int | None:
        """What may be claimed: 1 above, -1 below, 0 not told apart; None where there is no
        interval.

        A claim takes both an interval without 0 and a corrected p of at most 0.05.
        """
        p = self.p if self.p_holm is None else self.p_holm
        if self.interval is None or p is None:
            return None
        low, high = self.interval
        return int(low > 0) - int(high < 0) if p <= LEVEL else 0


class Resamples:
    """The weights of scores in a macro average, and `number` resamplings (Efron, 1979).

    Samples are drawn anew within each category, the same for all systems; so paired comparisons
    need nothing more: a difference of averages is the average of differences. A category of n
    samples is resampled with n - 1 draws, because n would vary too little by a factor of
    (n - 1) / n.

    Samples of one group, such as questions about one video, are drawn together (the cluster
    bootstrap: Davison and Hinkley, 1997, section 3.8; Field and Welsh, 2007). Categories that
    share a group, directly or through others, are one stratum, whose groups are drawn as above;
    each category's mean is over those of its samples that were drawn, and a draw that misses a
    category does not count.

    `groups` names each sample's; None: a group of its own.
    """

    def __init__(
        self,
        categories: Sequence[str] | Sequence[int],
        number: int = DRAWS,
        seed: int = 0,
        groups: Sequence[str | None] | None = None,
    ) -> None:
        names, member = np.unique(np.asarray(categories), return_inverse=True)
        self._members = [np.flatnonzero(member == index) for index in range(len(names))]
        self._group = _numbered(groups, len(member))
        by_category = (self._group[inside] for inside in self._members)
        self._shared = [np.unique(groups, return_inverse=True) for groups in by_category]
        self._strata = _strata(member, self._group)
        self._shape, self._seed = (number, 1 + int(self._group.max(initial=-1))), seed

    @property
    def independent(self) -> bool:
        """Whether each sample is a group of its own."""
        return self._shape[1] == len(self._group)

    @property
    def fewest(self) -> int:
        """Groups of the category that has the fewest."""
        return min((len(groups) for groups, _ in self._shared), default=0)

    @cached_property
    def _counts(self) -> UInt8[np.ndarray, "draws groups"]:
        """How often each resampling drew each group; drawn when first needed.

        In bytes: 100 MB for 10,000 resamplings of 10,000. That one is drawn 256 times has a chance
        below 1e-500.
        """
        generator = np.random.default_rng(self._seed)
        counts = np.empty(self._shape, np.uint8)
        for inside in self._strata:
            size = len(inside)
            step = max(1, _BLOCK // size)
            for begin in range(0, self._shape[0], step):
                rows = min(step, self._shape[0] - begin)
                drawn = generator.multinomial(max(1, size - 1), np.full(size, 1 / size), size=rows)
                counts[begin : begin + rows, inside] = drawn
        return counts

    @cached_property
    def _drawn(self) -> list[Float[np.ndarray, "draws"]]:
        """How many samples of each category each resampling drew."""
        return [
            np.einsum("ij,j->i", self._counts[:, groups], np.bincount(place).astype(float))
            for groups, place in self._shared
        ]

    def average(self, scores: Float[np.ndarray, "n"]) -> float:
        """The macro average of `scores`."""
        return float(np.mean([scores[inside].mean() for inside in self._members]))

    def draws(self, scores: Float[np.ndarray, "n"]) -> Float[np.ndarray, "draws"]:
        """The macro average in each resampling that has all categories."""
        # einsum and not @: the order of its sums does not depend on threads, and it makes no copy
        # of the counts. What is equal must not differ by rounding, or an interval that ends at 0
        # would exclude it.
        if self.independent:
            weighted = np.empty(self._shape[1])
            for inside in self._members:
                share = max(1, len(inside) - 1) * len(self._members)
                weighted[inside] = scores[inside] / share
            return np.round(np.einsum("ij,j->i", self._counts, weighted), _EXACT) + 0.0
        total = np.zeros(self._shape[0])
        known = np.logical_and.reduce([drawn > 0 for drawn in self._drawn])
        parts = zip(self._members, self._shared, self._drawn, strict=True)
        for inside, (groups, place), drawn in parts:
            sums = np.einsum("ij,j->i", self._counts[:, groups], np.bincount(place, scores[inside]))
            total += sums / np.maximum(drawn, 1)
        return np.round(total[known] / len(self._members), _EXACT) + 0.0

    def estimate(self, scores: Float[np.ndarray, "n"]) -> Estimate:
        """The macro average with its interval, which is None where the samples cannot tell.

        Wilson's (1927) for one category of independent zeros and ones, else the percentile
        bootstrap's. It cannot tell where a category has fewer than five groups, or where none shows
        any spread.
        """
        value = self.average(scores)
        if len(self._members) == 1 and self.independent and _right_or_wrong(scores):
            from scipy.stats import binomtest  # scipy is slow to import, and not every run counts

            right = binomtest(round(float(scores.sum())), len(scores))
            return Estimate(value, list(map(float, right.proportion_ci(0.95, method="wilson"))))
        told = self.fewest >= FEW and not self._flat(scores)
        return Estimate(value, _between(self.draws(scores)) if told else None)

    def paired(self, scores: Float[np.ndarray, "n"], baseline: Float[np.ndarray, "n"]) -> Paired:
        """How much higher `scores` are than `baseline`.

        Without an interval where a category has fewer than five groups, and where every group of a
        category changed by the same amount, unless that is 0 everywhere: then there is no
        difference, [0, 0]. p is twice the smaller share of resamplings on either side of 0, the
        samples themselves counted as one more (Davison and Hinkley, 1997, section 4.2): at least
        2 / (resamplings + 1).
        """
        value, change = self.average(scores) - self.average(baseline), scores - baseline
        mcnemar_p = mcnemar(scores, baseline) if self.independent else None
        if self.fewest < FEW or (change.any() and self._flat(change)):
            return Paired(value, None, None, mcnemar_p)
        draws = self.draws(change)
        beyond = 1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))
        return Paired(value, _between(draws), min(1.0, 2 * beyond / (len(draws) + 1)), mcnemar_p)

    def _flat(self, scores: Float[np.ndarray, "n"]) -> bool:
        """Whether all groups of each category have the same mean."""
        means = (
            np.bincount(place, scores[inside]) / np.bincount(place)
            for inside, (_, place) in zip(self._members, self._shared, strict=True)
        )
        return all(np.ptp(np.round(found, _EXACT)) == 0 for found in means)


def holm(compared: Sequence[Paired | None]) -> list[Paired | None]:
    """A set of comparisons with p corrected for their number (Holm, 1979); those without p stay.

    Among the claims that are left, one that is wrong has a probability of at most 0.05, however the
    comparisons depend on each other.
    """
    known = [(one.p, place, one) for place, one in enumerate(compared) if one and one.p is not None]
    found, corrected = list(compared), 0.0
    for rank, (p, place, one) in enumerate(sorted(known, key=lambda entry: entry[:2])):
        corrected = max(corrected, min(1.0, (len(known) - rank) * p))
        found[place] = one._replace(p_holm=corrected)
    return found


def enough(comparisons: int, draws: int) -> bool:
    """Whether so many resamplings have a p small enough for a claim among so many comparisons."""
    return comparisons * 2 / (draws + 1) <= LEVEL


def mcnemar(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"]) -> float | None:
    """Two-sided p of McNemar's (1947) exact test: as many right in `first` alone as in `second`.

    It counts samples, so all of them weigh the same, whatever their categories, and takes them as
    independent. None for scores other than 0 and 1.
    """
    if not len(first) or not (_right_or_wrong(first) and _right_or_wrong(second)):
        return None
    from scipy.stats import binomtest

    alone = int((first > second).sum())
    discordant = int((first != second).sum())
    return float(binomtest(alone, discordant).pvalue) if discordant else 1.0


def _numbered(groups: Sequence[str | None] | None, samples: int) -> Int[np.ndarray, "n"]:
    """Each sample's group as a number, in order of appearance."""
    if groups is None:
        return np.arange(samples)
    seen: dict[str | int, int] = {}
    own = [index if group is None else group for index, group in enumerate(groups)]
    return np.array([seen.setdefault(group, len(seen)) for group in own], dtype=int)


def _strata(
    member: Int[np.ndarray, "n"], group: Int[np.ndarray, "n"]
) -> list[Int[np.ndarray, "_"]]:
    """The groups of categories that share any, directly or through others; in their order."""
    if not len(member):
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    categories = 1 + int(member.max())
    size = categories + 1 + int(group.max())
    # the oldest scipy we allow reads indices of this width only, and is silent about others
    pairs = member.astype(np.int32), (categories + group).astype(np.int32)
    linked = coo_array((np.ones(len(member)), pairs), shape=(size, size))
    _, part = connected_components(linked, directed=False)
    numbers = dict.fromkeys(part[:categories].tolist())
    return [np.flatnonzero(part[categories:] == one) for one in numbers]


def _between(draws: Float[np.ndarray, "draws"]) -> list[float]:
    low, high = np.quantile(draws, _TAILS)
    return [float(low), float(high)]


def _right_or_wrong(scores: Float[np.ndarray, "n"]) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())


def mean(values: Iterable[float | int | None]) -> float | None:
    """Of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
