"""Decoding steps that compiled code has done: it runs no code of ours, but its cache counts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class CompiledSteps:
    """The steps of one sample, read when somebody asks for them.

    Args:
        columns: how many the cache holds by now [], a tensor that grows with it
        others: how many of them are no steps
        visible: visual rows that each step sees
        flips: of each step, whether it sees others than the step before [steps]; None: none does
    """

    columns: Tensor
    others: int
    visible: int
    flips: Tensor | None = None

    def catch_up(self, steps: list[Tensor | int], changes: list[Tensor]) -> None:
        """Adds what is missing; waits for the device."""
        steps += [self.visible] * (int(self.columns) - self.others - len(steps))
        if self.flips is not None:
            changes[:] = self.flips[1 : len(steps)]

    def end(self, steps: int) -> None:
        """Only so many of the columns by now are steps."""
        self.others = int(self.columns) - steps
