"""The control: `random` at a budget that was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tokenprune import registry
from tokenprune.results.answer import STRATEGY
from tokenprune.results.system import System
from tokenprune.strategy import Pipeline


def control(ratios: Sequence[float], seed: int) -> Pipeline:
    """`random` at the mean of layer-average ratios that a strategy kept."""
    keep = min(1.0, statistics.fmean(ratios)) if ratios else 1.0
    return registry.build("random", {"random.keep": keep, "random.seed": seed})


def control_of(done: Sequence[System], seed: int) -> Pipeline:
    """At the fraction of tokens that the strategy among `done` has kept, over all its samples."""
    (own,) = (system for system in done if system.name == STRATEGY)
    return control([answer.tokens["layer_average_ratio"] for answer in own.answered], seed)
