"""Control selections that know which tokens are evidence, as masks of the tokens to keep.

Axes: f frames, c cells of a frame (one visual token each). Every draw is the sample's own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Mask = Bool[np.ndarray, "f c"]


class Dose(NamedTuple):
    """How much of the evidence is kept on purpose."""

    share: float
    together: bool = False  # in as few frames as hold so much; else spread over all


def dosed(evidence: Mask, dose: Dose, budget: Int[np.ndarray, "f"], draw: int) -> Mask:
    """`budget[f]` tokens of frame f, with a random `dose` of the evidence, if that fits, and the
    other evidence only where nothing else is left.
    """
    chance = np.random.default_rng(draw)
    places = chance.permutation(np.flatnonzero(evidence))
    if dose.together:
        turn = chance.permutation(len(evidence))
        places = places[turn[places // evidence.shape[1]].argsort(kind="stable")]
    wanted = places[: round(dose.share * len(places))]
    rank = chance.random(evidence.shape) - evidence
    rank.flat[wanted] += 2
    order = (-rank).argsort(axis=1)
    kept = np.zeros_like(evidence)
    np.put_along_axis(kept, order, np.arange(evidence.shape[1]) < budget[:, None], axis=1)
    return kept


def transplanted(evidence: Mask, own: Mask, control: Mask, draw: int) -> Mask:
    """As many tokens as `control` keeps: of the evidence what `own` keeps, of all else what
    `control` keeps, but for random ones that make up the difference.
    """
    chosen = evidence & own
    others = int(control.sum() - chosen.sum())
    rank: Float[np.ndarray, "f c"] = np.random.default_rng(draw).random(evidence.shape) + control
    rank[evidence] = -1
    filling = (-rank).argsort(axis=None)[: max(0, others)]
    kept = chosen.copy()
    kept.flat[filling] = True
    return kept
