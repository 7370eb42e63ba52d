"""The laws of stages inside the vision tower.

Axes: `i` frames of a call, `n` rows of one, `k` key width, `f` frames of a video, `p` patches of
one, `v` values of one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tokenprune.testing.cases import OfKeys, OfPatches
from tokenprune.testing.law import holds, law


def keys_of(seed: int, shape: tuple[int, int, int]) -> OfKeys:
    """Keys `[i n k]`, and how many rows are to be merged: any number up to half.

    Some keys are equal, so that ties come up.
    """
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    keys = torch.randn(shape, generator=generator)
    keys[:, : shape[1] // 3] = keys[:, :1] if seed % 3 == 0 else keys[:, : shape[1] // 3]
    first, layers = draw.randint(0, 1), draw.randint(1, 6)
    remove = draw.randint(0, (shape[1] - first) // 2)
    return OfKeys(keys, remove, first, layers, draw.choice((144, 576, 729)))


def patches_of(seed: int, shape: tuple[int, int, int]) -> OfPatches:
    """Patches `[f p v]`, of which some stand still from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(shape, generator=generator)
    still = torch.rand(shape[:2], generator=generator) < 0.5
    for frame in range(1, shape[0]):
        patches[frame, still[frame]] = patches[frame - 1, still[frame]]
    return OfPatches(patches)


SIZES = ((1, 4, 3), (2, 9, 4), (3, 10, 1), (1, 36, 8), (4, 25, 5))


def of_keys(seed: int, cases: int) -> Iterator[OfKeys]:
    for number in range(cases):
        yield keys_of(seed + number, SIZES[number % len(SIZES)])


def of_patches(seed: int, cases: int) -> Iterator[OfPatches]:
    for number in range(cases):
        yield patches_of(seed + number, SIZES[number % len(SIZES)])


@law("it says for each tower layer how many rows go, and some are left")
def removed(strategy: Any, case: OfKeys) -> None:
    rows = case.rows
    found = strategy.removed(case.layers, rows, case.first)
    holds(isinstance(found, tuple), f"removed returned {type(found).__name__}, not a tuple")
    holds(len(found) == case.layers, f"removed returned {len(found)} numbers for {case.layers}")
    whole = all(type(number) is int and number >= 0 for number in found)
    holds(whole and sum(found) < rows - case.first, f"removed returned {found} for {rows} rows")


@law("every row goes into one group, no group is empty, and rows before the patches stay alone")
def groups(strategy: Any, case: OfKeys) -> None:
    found, left = _group(strategy, case.keys, case), case.keys.shape[1] - case.remove
    holds(found.shape == case.keys.shape[:2], f"group returned {[*found.shape]}")
    for row in found:
        holds({*row.tolist()} == {*range(left)}, f"groups {row.tolist()} are not 0 to {left - 1}")
        if case.first:
            alone = row[0] == 0 and (row[1:] > 0).all()
            holds(alone, f"the first row is not alone: {row.tolist()}")


@law("what happens in a frame depends on that frame alone")
def frames_apart(strategy: Any, case: OfKeys) -> None:
    together = _group(strategy, case.keys, case)
    for frame, keys in enumerate(case.keys):
        alone = _group(strategy, keys.unsqueeze(0), case)
        holds(torch.equal(alone[0], together[frame]), f"frame {frame} is grouped otherwise alone")


def _group(strategy: Any, keys: Tensor, case: OfKeys) -> Tensor:
    return strategy.group(keys, case.remove, case.first)


@law("one mark per patch, and none in the first frame")
def marks(strategy: Any, case: OfPatches) -> None:
    found = strategy.taken(case.patches)
    holds(found.dtype == torch.bool, f"taken returned {found.dtype}")
    holds(found.shape == case.patches.shape[:2], f"taken returned {[*found.shape]}")
    holds(not found[0].any(), "the first frame has none before it")


@law("what is taken from the frame before depends on no frame behind it")
def no_future(strategy: Any, case: OfPatches) -> None:
    whole, half = strategy.taken(case.patches), len(case.patches) // 2 + 1
    part = strategy.taken(case.patches[:half])
    holds(torch.equal(part, whole[:half]), "later frames change what earlier ones take")


MERGE = (removed, groups, frames_apart)
REUSE = (marks, no_future)
