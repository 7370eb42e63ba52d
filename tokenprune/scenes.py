"""Scenes of a video, consecutive frames in which much stays the same: pure parts of methods.

Axes: `f` frames, `n` cells of a frame, `d` width, `w` frames of a scene, less one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
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
    end = length.cumsum()
    of = np.arange(len(length)).repeat(length)
    # a scene of one frame has no static cell, another those that are still for all its transitions
    needed = np.where(length > 1, length - 1, len(run))
    cells = saves[end - 1, length - 1] // (length - 1).clip(min=1)
    last, needed = hosted.moved(torch.from_numpy(np.stack([end - 1, needed])[:, of]), run.device)
    static = run.index_select(0, last) >= needed.unsqueeze(-1)
    return Scenes(
        hosted.sent(of.tolist(), run.device),
        hosted.sent((end - length)[of].tolist(), run.device),
        static,
        hosted.sent(cells.tolist(), run.device),
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


def savings(run: Int[Tensor, "f n"]) -> Int[np.ndarray, "f w"]:
    """Rows saved by the scene that ends with frame f and has w frames before it; on the host."""
    frames = len(run)
    number = run.new_zeros(frames, frames).scatter_add_(1, run, torch.ones_like(run))
    at_least = np.array(number.tolist())[:, ::-1].cumsum(1)[:, ::-1]  # still for w transitions
    return at_least * np.arange(frames)


def longest_savings(saved: Int[np.ndarray, "f w"], longest: int) -> tuple[np.ndarray, int]:
    """Lengths of the scenes that save most rows together, and how many these are; on the host."""
    frames = len(saved)
    best, last = np.zeros(frames + 1, dtype=np.int64), [1] * frames
    # inherent: what the frames before save at most decides about each frame
    for frame in range(frames):
        width = min(frame + 1, longest)
        total = best[frame + 1 - width : frame + 1][::-1] + saved[frame, :width]
        choice = int(total.argmax())
        best[frame + 1], last[frame] = total[choice], choice + 1
    lengths, end = [], frames
    while end > 0:  # scene by scene, from the last
        lengths.append(last[end - 1])
        end -= lengths[-1]
    return np.array(lengths[::-1], dtype=np.int64), int(best[-1])


def turns(
    counted: Bool[Tensor, "f"], segment: Int[Tensor, "f"]
) -> tuple[Int[Tensor, "f"], Int[Tensor, "f"]]:
    """The place of each frame among those `counted` in its segment, and how many these are."""
    one = counted.long()
    all_of = torch.zeros_like(segment).scatter_add_(0, segment, one)
    before = one.cumsum(0) - one - (all_of.cumsum(0) - all_of)[segment]
    return before, all_of[segment]


def share(
    total: Int[Tensor, "f"], parts: Int[Tensor, "f"], turn: Int[Tensor, "f"]
) -> Int[Tensor, "f"]:
    """Part number `turn` of `total` in equal `parts`, of which the first ones get one more."""
    parts = parts.clamp(min=1)
    return total // parts + (turn < total % parts).long()
