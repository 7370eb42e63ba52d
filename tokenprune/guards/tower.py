"""What a stage inside the vision tower returns is held to the contract.

A third party's is held to all of it. Of a built-in one only what the host knows is looked at: for
the rest the laws have shown it, and reading it would make the tower's every layer wait.

Axes: `i` frames of a call, `n` rows of one, `f` frames of a video, `p` patches of one.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.guards import blame
from tokenprune.guards.contract import INTEGERS, ask, breach, described

_REMOVED = (
    "removed is a tuple with one whole number for each tower layer, not negative, after all of "
    "which at least one row besides the first is left"
)
_GROUP = "a group is one whole number per row, 0 to n - remove - 1, and none of them is empty"
_ALONE = "rows in front of the patches (CLS) stay first, and alone"
_TAKEN = "taken is one mark per patch of each frame, a bool tensor on its input's device"
_FIRST = "the first frame has none before it"


def removed(stage: Any, layers: int, rows: int, first: int) -> tuple[int, ...]:
    """How many rows of a frame each tower layer merges away."""
    said = ask(stage, "removed", layers, rows, first)
    whole = isinstance(said, tuple) and all(type(number) is int for number in said)
    if not whole or len(said) != layers or min(said, default=0) < 0 or sum(said) >= rows - first:
        did = f"returned {said!r} for {layers} layers and {rows} rows"
        raise breach(stage, "removed", did, _REMOVED)
    return said


def group(stage: Any, keys: Float[Tensor, "i n k"], remove: int, first: int) -> Int[Tensor, "i n"]:
    """The group of every row."""
    said = ask(stage, "group", keys, remove, first)
    did = f"returned {described(said)} for keys {list(keys.shape)}"
    if not isinstance(said, Tensor) or said.dtype not in INTEGERS:
        raise breach(stage, "group", did, _GROUP)
    if said.shape != keys.shape[:2] or said.device != keys.device:
        raise breach(stage, "group", did, _GROUP)
    if blame.foreign(type(stage)):
        _check_group(stage, said.long(), keys.shape[1] - remove, first)
    return said.long()


def _check_group(stage: Any, said: Int[Tensor, "i n"], number: int, first: int) -> None:
    """What has to be read from the device."""
    if bool(((said < 0) | (said >= number)).any()):
        low, high = said.min().item(), said.max().item()
        raise breach(stage, "group", f"returned {low} to {high} for {number} groups", _GROUP)
    sizes = said.new_zeros(len(said), number).scatter_add(1, said, torch.ones_like(said))
    if bool((sizes == 0).any()):
        empty = int((sizes == 0).any(0).nonzero()[0])
        raise breach(stage, "group", f"left group {empty} of {number} empty", _GROUP)
    in_front = torch.arange(first, device=said.device).expand(len(said), first)
    if bool((said[:, :first] != in_front).any() | (sizes[:, :first] != 1).any()):
        raise breach(stage, "group", f"merged one of the first {first} rows", _ALONE)


def taken(stage: Any, patches: Float[Tensor, "f p v"]) -> Bool[Tensor, "f p"]:
    """Which patches take the result of the frame before."""
    said = ask(stage, "taken", patches)
    did = f"returned {described(said)} for patches {list(patches.shape)}"
    if not isinstance(said, Tensor) or said.dtype != torch.bool:
        raise breach(stage, "taken", did, _TAKEN)
    if said.shape != patches.shape[:2] or said.device != patches.device:
        raise breach(stage, "taken", did, _TAKEN)
    if blame.foreign(type(stage)) and bool(said[0].any()):
        raise breach(stage, "taken", "marked patches of the first frame", _FIRST)
    return said
