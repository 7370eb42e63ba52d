"""Scores of cells side by side, and what resampling makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from tokenprune.results.answer import Answer
from tokenprune.results.statistics import Estimate, Paired, Resamples

Answers = Mapping[str, Sequence[Answer]]  # of every finished cell, by its slug


class Scores:
    """One score of every cell for each sample; nan where a cell has none, which leaves it out.

    Samples are those of the cell `first`, in its order.
    """

    def __init__(self, answers: Answers, first: str, resamples: int, seed: int) -> None:
        asked = answers[first]
        ids = [answer.id for answer in asked]
        groups = _groups(answers)
        self.resamples, self._seed = resamples, seed
        self._categories = np.array([answer.category for answer in asked])
        self._groups = np.array([groups.get(one) for one in ids], dtype=object)
        self._of = {slug: _in_order(found, ids) for slug, found in answers.items()}
        self._drawn: dict[bytes, Resamples] = {}

    def drawn(self, known: Bool[np.ndarray, "n"]) -> Resamples:
        """Resamples of the samples `known`."""
        if (key := known.tobytes()) not in self._drawn:
            categories = self._categories[known].tolist()
            groups = self._groups[known].tolist()
            self._drawn[key] = Resamples(categories, self.resamples, self._seed, groups)
        return self._drawn[key]

    def estimate(self, slug: str) -> Estimate | None:
        """None where no sample has a score."""
        scores = self._of[slug]
        known = ~np.isnan(scores)
        return self.drawn(known).estimate(scores[known]) if known.any() else None

    def paired(self, slug: str, other: str | None) -> Paired | None:
        """A cell minus another; None where that is the same, is not there, or shares no sample."""
        if other is None or other == slug or other not in self._of:
            return None
        scores, baseline = self._of[slug], self._of[other]
        known = ~np.isnan(scores - baseline)
        if not known.any():
            return None
        return self.drawn(known).paired(scores[known], baseline[known])

    def fewest(self, slug: str) -> int:
        """Independent samples of the smallest category, among those that the cell answered."""
        return self.drawn(~np.isnan(self._of[slug])).fewest


def _groups(answers: Answers) -> dict[str, str]:
    """The group of every sample that is in one; a sample that failed may not know it."""
    found = (answer for each in answers.values() for answer in each)
    return {answer.id: answer.group for answer in found if answer.group is not None}


def _in_order(answers: Sequence[Answer], ids: Sequence[str]) -> Float[np.ndarray, "n"]:
    found = {answer.id: answer.score for answer in answers if answer.error is None}
    return np.array([found.get(one, np.nan) for one in ids], dtype=float)
