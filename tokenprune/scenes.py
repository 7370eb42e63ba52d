"""Segments of a video, consecutive frames that resemble each other: pure parts of methods.

Axes: `f` frames, `t` transitions from one frame to the next, `d` width.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from operator import mul

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def similarities(summary: Float[Tensor, "f d"]) -> list[float]:
    """The cosine of each frame with the next, in single precision, by one read.

    As `ops.cosine`: 0 where a vector is all zero, exactly 1 where both are equal.
    """
    summary = summary.float()
    pairs = torch.stack([summary, summary.roll(-1, 0)])  # the last with the first: not looked at
    squares, products = (pairs * summary).sum(-1).tolist()
    # rounded after each step, as on a device, so that what ties there ties here
    norms = _single(map(sqrt, _single(map(mul, squares, squares[1:]))))
    tiny = torch.finfo(torch.float32).tiny
    ratios = _single(one / max(norm, tiny) for one, norm in zip(products, norms, strict=False))
    return [min(max(ratio, -1.0), 1.0) for ratio in ratios]


def below(similarity: Sequence[float], threshold: float) -> list[bool]:
    """Which single-precision numbers are smaller than a threshold; on the host."""
    (threshold,) = _single([threshold])
    return [one < threshold for one in similarity]


def _single(numbers: Iterable[float]) -> list[float]:
    return array("f", numbers).tolist()


def segments(similarity: Sequence[float], threshold: float, least: int) -> list[int]:
    """How many frames each segment has, as `segment_of` cuts them; on the host."""
    number = max(sum(below(similarity, threshold)), min(least - 1, len(similarity)))
    cuts = sorted(range(len(similarity)), key=similarity.__getitem__)[:number]
    ends = [-1, *sorted(cuts), len(similarity)]
    return [end - start for start, end in pairwise(ends)]


def segment_of(similarity: Float[Tensor, "t"], threshold: float, least: int) -> Int[Tensor, "f"]:
    """The segment of every frame, from the similarity of each frame to the next.

    A segment ends where the similarity falls below `threshold`, and where it is smallest until
    there are `least` segments, as far as frames go. Ties: the earlier cut.
    """
    lowest = similarity.argsort(stable=True)[: max(0, least - 1)]
    cut = (similarity < threshold).index_fill(0, lowest, True)
    return functional.pad(cut, (1, 0)).cumsum(0)


def share(total: int, parts: int, turn: int) -> int:
    """Part number `turn` of `total` in equal `parts`, of which the first ones get one more."""
    return total // parts + (turn < total % parts)
