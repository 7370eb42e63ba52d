"""The control: `random` at a budget that was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tokenprune import registry
from tokenprune.strategy import Pipeline


def control(ratios: Sequence[float], seed: int) -> Pipeline:
    """`random` at the mean of layer-average ratios that a strategy kept."""
    keep = min(1.0, statistics.fmean(ratios)) if ratios else 1.0
    return registry.build("random", {"random.keep": keep, "random.seed": seed})
