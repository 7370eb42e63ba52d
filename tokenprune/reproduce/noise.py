"""How much a score moves without a reason: greedy answers that flip with kernels and precision.

The same questions and greedy decoding leave no sampling noise between a paper and us. If a share q
of the scores differs between two runs, their means differ with a standard deviation of
`sqrt(q / n)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenprune.reproduce.rounding import half_unit
from tokenprune.reproduce.schema import Column

SURE = 1.96  # standard deviations, 95 %


@dataclass(frozen=True)
class Noise:
    """Shares of scores that differ between two runs of the same.

    The defaults: DyCoke prints its spread over runs, 0.03 to 0.30 points on 4,000 questions
    (q = 0.07 to 7 %); float32 against bfloat16 changed 0.9 % of the embedded model's scores
    and 5.9 % of DyCoke's on it (220 samples). Compressed runs tip on near ties.
    """

    full: float = 0.02
    compressed: float = 0.08
    measured: str = ""  # how, if these are not the defaults

    def share(self, is_full: bool) -> float:
        return self.full if is_full else self.compressed


def spread(column: Column, share: float, n: int) -> float:
    """What two runs of the same differ by at most, in the column's unit, 95 times of 100."""
    return SURE * column.most * math.sqrt(share / n)


def tolerance(column: Column, printed: float | int, share: float, n: int) -> float:
    """`spread`, and half a unit of the printed digit: 0.6 points of VideoMME's 2,700 questions at
    q = 2 %.
    """
    return half_unit(printed) + spread(column, share, n)
