"""Scenes of a video, consecutive frames in which much stays the same: pure parts of methods.

Axes: `f` frames, `n` cells of a frame, `d` width, `w` frames of a scene, less one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import sqrt
from operator import add, mul
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops


class Scenes(NamedTuple):
    """A partition of the frames.

    Args:
        of: the scene of each frame, counted from 0
        first: the first frame of its scene
        static: cells that stay the same throughout the frame's scene, which has more than one frame
        cells: how many these are in each scene; the host knows its numbers, as those of `of`
        saved: rows saved where each scene has a static cell once
    """

    of: Int[Tensor, "f"]
    first: Int[Tensor, "f"]
    static: Bool[Tensor, "f n"]
    cells: Int[Tensor, "g"]
    saved: int


def most_static(
    features: Float[Tensor, "f n d"],
    present: Bool[Tensor, "f n"],
    similarity: float,
    longest: int,
) -> Scenes:
    """The scenes of at most `longest` frames that save most rows.

    A cell stays the same where the cosine of consecutive frames is above `similarity` in every
    transition of the scene. Ties: the last frame alone, then the shorter last scene.
    """
    run = still(features, present, similarity)
    saves = savings(run)  # the one read: everything else follows on the host
    length, saved = longest_savings(saves, longest)
    end = [*accumulate(length)]
    of = [scene for scene, frames in enumerate(length) for _ in range(frames)]
    # a scene of one frame has no static cell, another those that are still for all its transitions
    least = [frames - 1 if frames > 1 else len(run) for frames in length]
    cells = [saves[last - 1][w - 1] // max(1, w - 1) for last, w in zip(end, length, strict=True)]
    last = hosted.sent([end[scene] - 1 for scene in of], run.device)
    needed = hosted.sent([least[scene] for scene in of], run.device)
    return Scenes(
        hosted.sent(of, run.device),
        hosted.sent([end[scene] - length[scene] for scene in of], run.device),
        run.index_select(0, last) >= needed.unsqueeze(-1),
        hosted.sent(cells, run.device),
        saved,
    )


def still(
    features: Float[Tensor, "f n d"], present: Bool[Tensor, "f n"], similarity: float
) -> Int[Tensor, "f n"]:
    """In how many transitions up to each frame a cell has stayed the same, without a break."""
    features = features.float()
    square = features.square().sum(-1)
    product = (features[1:] * features[:-1]).sum(-1)
    same = ops.cosine_of(product, square[1:], square[:-1]) > similarity
    if not hosted.all_true(present):
        same = same & present[1:] & present[:-1]
    frame = torch.arange(1, len(present), device=present.device).unsqueeze(-1)
    changed = frame.masked_fill(same, 0).cummax(dim=0).values  # the last frame in which it did not
    return functional.pad(frame - changed, (0, 0, 1, 0))


def savings(run: Int[Tensor, "f n"]) -> list[list[int]]:
    """Rows saved by the scene that ends with frame f and has w frames before it; on the host."""
    frames = len(run)
    number = run.new_zeros(frames, frames).scatter_add_(1, run, torch.ones_like(run))
    still = ([*accumulate(reversed(row))][::-1] for row in number.tolist())  # for w transitions
    return [[w * cells for w, cells in enumerate(row)] for row in still]


def longest_savings(saved: list[list[int]], longest: int) -> tuple[list[int], int]:
    """Lengths of the scenes that save most rows together, and how many these are; on the host."""
    frames, best, lengths = len(saved), [0], []
    # inherent: what the frames before save at most decides about each frame
    for frame in range(frames):
        before = reversed(best[max(0, frame + 1 - longest) :])
        total = [*map(add, before, saved[frame])]
        best.append(max(total))
        lengths.append(total.index(best[-1]) + 1)
    scenes, end = [], frames
    while end > 0:  # scene by scene, from the last
        scenes.append(lengths[end - 1])
        end -= scenes[-1]
    return scenes[::-1], best[-1]


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
    """How many frames each segment has, as `clustering.segments` cuts them; on the host."""
    number = max(sum(below(similarity, threshold)), min(least - 1, len(similarity)))
    cuts = sorted(range(len(similarity)), key=similarity.__getitem__)[:number]
    ends = [-1, *sorted(cuts), len(similarity)]
    return [end - start for start, end in pairwise(ends)]


def share(total: int, parts: int, turn: int) -> int:
    """Part number `turn` of `total` in equal `parts`, of which the first ones get one more."""
    return total // parts + (turn < total % parts)
