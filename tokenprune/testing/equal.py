"""Whether two inputs or results are the same, bit for bit, and copies to compare with later."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def copied(value: Any) -> Any:
    """A dataclass with copies of its tensors, those of what it holds too."""
    return _with(value, lambda part: part.clone())


def moved(value: Any, device: str) -> Any:
    """A dataclass whose tensors lie on a device; what lies on the host by contract stays."""
    return _with(value, lambda part: part.to(device), stay=("seen",))


def _with(value: Any, change: Callable[[Tensor], Tensor], stay: tuple[str, ...] = ()) -> Any:
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        part = vars(value).get(field.name)
        if isinstance(part, Tensor) and field.name not in stay:
            fields[field.name] = change(part)
        elif dataclasses.is_dataclass(part):
            fields[field.name] = _with(part, change, stay)
    return dataclasses.replace(value, **fields)


def same(one: Any, other: Any) -> bool:
    """Whether two values hold the same: tensors, tuples, dataclasses of them, or anything else."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = (one.dtype, one.device, one.shape) == (other.dtype, other.device, other.shape)
        return alike and torch.equal(one, other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        # what a view has not read yet is not among its variables
        read = [name for name in names if name in vars(one) and name in vars(other)]
        return all(same(vars(one)[name], vars(other)[name]) for name in read)
    return bool(one == other)


def shown(counts: Tensor) -> str:
    """Numbers in a message."""
    return str(counts.tolist())
