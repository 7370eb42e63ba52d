"""Whether an allocator finds the frame that matters: the rank of its weights of the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from tokenprune.results.answer import Answer
from tokenprune.results.statistics import Estimate, Paired, Resamples

NEEDLE = "needle"  # the category whose evidence is one or two frames


@dataclass(frozen=True)
class Importance:
    """How one guide ranks the best of a sample's evidence frames."""

    guide: str
    samples: int
    reciprocal_rank: Estimate
    chance: float
    advantage: Paired  # over chance, sample by sample
    first: float  # share of samples with evidence at rank 1


def expected_reciprocal(above: int, tied: int, wanted: int) -> float:
    """Expected reciprocal rank of the best of `wanted` frames among `tied`, behind `above` others.

    The tied are in random order: of their orders, C(tied - r, wanted - 1) / C(tied, wanted) have
    the first wanted one at place r.
    """
    orders = comb(tied, wanted)
    places = range(1, tied - wanted + 2)
    return sum(comb(tied - place, wanted - 1) / (above + place) for place in places) / orders


def reciprocal_rank(weights: Sequence[float], evidence: Iterable[int]) -> float:
    """Of the best-ranked evidence frame; the expected value where frames tie."""
    mine = [weights[frame] for frame in evidence]
    best = max(mine)
    above = sum(weight > best for weight in weights)
    return expected_reciprocal(above, list(weights).count(best), mine.count(best))


def importance(
    guide: str,
    answers: Sequence[Answer],
    resamples: int,
    seed: int,
    category: str = NEEDLE,
) -> Importance | None:
    """The guide's ranks over the samples of `category`.

    None where no sample has evidence and weights.
    """
    inside = [answer for answer in answers if answer.category == category and answer.evidence]
    known = [answer for answer in inside if answer.tokens.get("frame_weights")]
    if not known:
        return None
    weighed = [(answer.tokens["frame_weights"], answer.evidence or []) for answer in known]
    ranks = np.array([reciprocal_rank(weights, evidence) for weights, evidence in weighed])
    by_chance = [expected_reciprocal(0, len(weights), len(shown)) for weights, shown in weighed]
    chance, groups = np.array(by_chance), [answer.group for answer in known]
    drawn = Resamples([category] * len(known), resamples, seed, groups)
    nothing = np.zeros(len(ranks))
    return Importance(
        guide,
        len(known),
        # not a proportion, even where all are 1
        Estimate(*drawn.paired(ranks, nothing)[:2]),
        float(chance.mean()),
        drawn.paired(ranks, chance),
        float((ranks == 1).mean()),
    )
