"""Small tensors of whole numbers that the host knows without asking the device.

Counts, quotas and budgets are tensors on the model's device, as every strategy takes and returns
them. Where the host has made one it remembers what it holds, on the tensor itself, as long as
nobody writes into it: a launch that depends on a number then waits for nothing. A tensor that
somebody else has made is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

_NUMBERS, _COUNTS = "_tokenprune_numbers", "_tokenprune_counts"


def sent(numbers: Sequence[int], device: torch.device) -> Int[Tensor, "f"]:
    """Whole numbers on a device, which is not waited for, and which the host goes on knowing."""
    made = torch.tensor([*numbers], dtype=torch.long).to(device, non_blocking=True)
    return note(made, numbers)


def note(tensor: Int[Tensor, "f"], numbers: Sequence[int]) -> Int[Tensor, "f"]:
    """The same tensor; `numbers` is what it holds, as whoever calls this knows."""
    setattr(tensor, _NUMBERS, (_version(tensor), tuple(numbers)))
    return tensor


def known(tensor: Int[Tensor, "f"]) -> tuple[int, ...] | None:
    """What a tensor holds, if the host knows; None if it would have to ask the device."""
    version, numbers = getattr(tensor, _NUMBERS, (None, None))
    return numbers if version == _version(tensor) else None


def numbers(tensor: Int[Tensor, "f"]) -> tuple[int, ...]:
    """What a tensor holds: without a read where it is known, else by one, which is remembered."""
    if (found := known(tensor)) is None:
        found = tuple(tensor.tolist())
        note(tensor, found)
    return found


def note_counts(frame: Int[Tensor, "n"], counts: Sequence[int]) -> Int[Tensor, "n"]:
    """The same tensor; `counts` is how many of its entries each frame has."""
    setattr(frame, _COUNTS, (_version(frame), sent(counts, frame.device)))
    return frame


def counts(frame: Int[Tensor, "n"], frames: int) -> Int[Tensor, "f"]:
    """How many entries each frame has, made once; what is negative belongs to none.

    Its numbers are known where somebody has noted them.
    """
    version, found = getattr(frame, _COUNTS, (None, None))
    if found is None or version != _version(frame) or len(found) != frames:
        # of one more frame, for what belongs to none: its size does not depend on what is counted
        place = torch.where(frame < 0, frames, frame.long())
        found = frame.new_zeros(frames + 1, dtype=torch.long)
        found = found.scatter_add(0, place, torch.ones_like(place))[:frames]
        setattr(frame, _COUNTS, (_version(frame), found))
    return found


def _version(tensor: Any) -> int:
    """Counts writes; tensors of inference mode count none."""
    return -1 if tensor.is_inference() else tensor._version
