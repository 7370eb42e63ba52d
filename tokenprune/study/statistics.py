"""Macro averages and their bootstrap intervals: samples are drawn anew within each family, the same for all methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


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


class Resamples:
    """The weights under which scores make a macro average (the mean of family means), and `number` resamplings of them.

    Paired comparisons need no more than the same resamples: a difference of averages is the average of differences.
    A family of n samples is resampled with n - 1 draws, because n would vary too little by a factor of (n - 1) / n.
    """

    def __init__(self, families: Sequence[str], number: int = 10_000, seed: int = 0) -> None:
        names, member = np.unique(np.asarray(families), return_inverse=True)
        generator = np.random.default_rng(seed)
        self.plain = np.empty(len(member))
        self.drawn = np.empty((number, len(member)))
        for index in range(len(names)):
            inside = member == index
            size = int(inside.sum())
            draws = max(1, size - 1)
            self.plain[inside] = 1 / (size * len(names))
            counts = generator.multinomial(draws, np.full(size, 1 / size), size=number)
            self.drawn[:, inside] = counts / (draws * len(names))

    def estimate(self, scores: Float[np.ndarray, "n"]) -> Estimate:
        """The macro average of `scores` with its percentile interval."""
        low, high = np.quantile(self.drawn @ scores, [0.025, 0.975])
        return Estimate(float(self.plain @ scores), float(low), float(high))
