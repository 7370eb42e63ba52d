"""The learning rates' common factor: warm-up, a constant, linear decay to nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """`progress` says how much of the training is over after a step, by its steps or by a clock."""

    progress: Callable[[int], float]
    peak: float = 1.0
    warmup: int = 100  # steps
    steady: float = 0.45  # share of the training before the decay

    def __call__(self, step: int) -> float:
        left = (1 - self.progress(step)) / (1 - self.steady)
        return self.peak * min((step + 1) / self.warmup, 1.0, max(left, 0.0))
