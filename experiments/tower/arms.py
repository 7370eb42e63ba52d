"""Stages inside the tower at several settings, and what each is held against.

A control does as much of the tower's work as the method beside it, at places that say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenprune.strategies.reuse import Reuse, unchanged
from tokenprune.strategies.tome import ToMe
from tokenprune.strategy import Pipeline, TowerMerger, TowerReuser


@dataclass(frozen=True)
class AnyRows(TowerMerger):
    """Merges as many rows as ToMe, whichever they are.

    Args:
        r: rows of a frame that each tower layer merges away
        seed: of the draw
    """

    r: int
    seed: int = 0

    def removed(self, layers: int, rows: int, first: int) -> tuple[int, ...]:
        return ToMe(self.r).removed(layers, rows, first)

    def group(self, keys: Tensor, remove: int, first: int) -> Tensor:
        frames, rows = keys.shape[:2]
        draw = torch.Generator().manual_seed(self.seed)
        order = torch.rand(frames, rows, generator=draw)
        order[:, :first] = -1.0
        kept = rows - remove
        number = torch.arange(kept).expand(frames, -1)
        joined = torch.randint(first, kept, (frames, remove), generator=draw)
        group = torch.empty(frames, rows, dtype=torch.long)
        group.scatter_(1, order.argsort(1), torch.cat([number, joined], 1))
        return group


@dataclass(frozen=True)
class AnyPatches(TowerReuser):
    """Takes as many patches of each frame as `reuse`, whichever they are.

    Args:
        threshold: that of `reuse`
        seed: of the draw
    """

    threshold: float
    seed: int = 0

    def taken(self, patches: Tensor) -> Tensor:
        wanted = unchanged(patches, self.threshold).sum(1, keepdim=True)
        draw = torch.Generator().manual_seed(self.seed)
        rank = torch.rand(patches.shape[:2], generator=draw).argsort(1).argsort(1)
        return rank < wanted


@dataclass(frozen=True)
class Arm:
    """A stage at a setting; `control`: in the places that say nothing."""

    method: str
    setting: float
    control: bool
    pipeline: Pipeline


def arms(rows: Sequence[int], thresholds: Sequence[float]) -> list[Arm]:
    """The full model first."""
    found = [Arm("full model", 0.0, False, Pipeline())]
    for r in rows:
        found.append(Arm("tome", r, False, Pipeline((ToMe(r),))))
        found.append(Arm("tome", r, True, Pipeline((AnyRows(r),))))
    for threshold in thresholds:
        found.append(Arm("reuse", threshold, False, Pipeline((Reuse(threshold),))))
        found.append(Arm("reuse", threshold, True, Pipeline((AnyPatches(threshold),))))
    return found
