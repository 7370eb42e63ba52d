"""Whether an allocator finds the frame that matters: the rank of a question's evidence under its
frame weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from tokenprune.results.statistics import Estimate, Paired, Resamples

NEEDLE = "needle"  # the family whose evidence is one or two frames


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
    """Expected reciprocal rank of the best of `wanted` among `tied` frames in random order, behind
    `above` others.

    Of the orders of `tied` frames, C(tied - r, wanted - 1) / C(tied, wanted) have the first wanted
    one at place r.
    """
    places = range(1, tied - wanted + 2)
    return sum(comb(tied - place, wanted - 1) / (above + place) for place in places) / comb(
        tied, wanted
    )


def reciprocal_rank(weights: Sequence[float], evidence: Iterable[int]) -> float:
    """Of the best-ranked evidence frame, the largest weight first; expected value where frames tie."""
    mine = [weights[frame] for frame in evidence]
    best = max(mine)
    return expected_reciprocal(
        sum(w > best for w in weights), list(weights).count(best), mine.count(best)
    )


def importance(
    guide: str,
    records: Sequence[Mapping[str, Any]],
    resamples: int,
    seed: int,
    family: str = NEEDLE,
) -> Importance | None:
    """The guide's ranks over the samples of `family`; None where no sample has evidence and
    weights.
    """
    known = [
        r
        for r in records
        if r["category"] == family and r.get("evidence") and r.get("frame_weights")
    ]
    if not known:
        return None
    ranks = np.array([reciprocal_rank(r["frame_weights"], r["evidence"]) for r in known])
    chance = np.array(
        [expected_reciprocal(0, len(r["frame_weights"]), len(r["evidence"])) for r in known]
    )
    groups = [r.get("group") for r in known]
    drawn = Resamples([family] * len(known), resamples, seed, groups)
    return Importance(
        guide,
        len(known),
        # no proportion, even where all are 1
        Estimate(*drawn.paired(ranks, np.zeros(len(ranks)))[:2]),
        float(chance.mean()),
        drawn.paired(ranks, chance),
        float((ranks == 1).mean()),
    )
