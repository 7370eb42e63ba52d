"""What a third party's strategy does to its input and to itself: it may change neither.

In inference mode tensors count no versions. A strategy then runs outside it, where torch itself
refuses to write into a tensor made inside. On the CPU, where NumPy shares a tensor's memory unseen,
sums over its rows are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor

from tokenprune.guards import blame
from tokenprune.tokens import SequenceView, VisualTokens

_INPUT = "the input is read only: clone() what you change"
_SELF = (
    "keep no state on the instance or the class: a DecodeStage gets its state and returns the next"
)
_REFUSED = "inplace update to inference tensor"  # torch's words, which a test holds


@contextmanager
def watched(
    strategy: Any, method: str, arguments: tuple[Any, ...]
) -> Iterator[list[tuple[str, str]]]:
    """Yields a list that holds, after the block, what was done in it and the rule against it.

    At most one such pair.
    """
    harm: list[tuple[str, str]] = []
    inputs, held = _tensors(arguments), _belongings(strategy)
    marks = {name: _mark(part) for name, part in inputs.items()}
    try:
        with _normal(bool(inputs) and torch.is_inference_mode_enabled()):
            yield harm
    except RuntimeError as error:
        if _REFUSED not in str(error).lower():
            raise
        line = blame.line(error, type(strategy), method)
        harm.append(("wrote into its input" + ("" if line is None else f" in line {line}"), _INPUT))
        return
    if changed := [name for name, part in inputs.items() if not _same(marks[name], _mark(part))]:
        harm.append((f"wrote into {changed[0]} of its input", _INPUT))
    elif changed := _changed(strategy, held):
        harm.append((f"changed {changed}", _SELF))


@contextmanager
def _normal(needed: bool) -> Iterator[None]:
    """Outside inference mode, still without gradients."""
    if not needed:
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def _tensors(arguments: tuple[Any, ...]) -> dict[str, Tensor]:
    """The tensors of views, token sets and budgets by name; a probe makes its own."""
    found: dict[str, Tensor] = {}
    for value in arguments:
        if isinstance(value, Tensor):
            found["budget"] = value
        elif isinstance(value, (VisualTokens, SequenceView)):
            found.update(
                (name, part) for name, part in vars(value).items() if isinstance(part, Tensor)
            )
    return found


def _mark(part: Tensor) -> tuple[int, Tensor | None]:
    """What shows whether a tensor was written to: its version.

    On the CPU also its bytes, or sums over those of a row.
    """
    version = 0 if part.is_inference() else part._version
    if part.device.type != "cpu":
        return version, None
    part = part.detach().contiguous()
    if part.ndim < 2:  # a decode stage's state may be one number
        return version, part.view(-1).view(torch.uint8).clone()
    # eight bytes at a time are fast
    words = torch.int64 if part.shape[-1] * part.element_size() % 8 == 0 else torch.int16
    return version, part.view(words).sum(-1)


def _same(before: tuple[int, Tensor | None], after: tuple[int, Tensor | None]) -> bool:
    (version, old), (now, new) = before, after
    return version == now and (old is None or new is None or torch.equal(old, new))


def _belongings(strategy: Any) -> dict[tuple[int, str], tuple[Any, tuple[Any, ...]]]:
    """What an instance and its classes hold: it shows what is set, replaced, or grown.

    A list that is a field belongs to whoever made the instance, who may have it written to: it is
    how one records.
    """
    kinds = [kind for kind in type(strategy).__mro__ if blame.foreign(kind) and kind is not object]
    return {
        (number, name): (value, _contents(value) if number else ())
        for number, owner in enumerate((strategy, *kinds))
        for name, value in getattr(owner, "__dict__", {}).items()
        if not name.startswith("__")
    }


def _contents(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Tensor):
        return () if value.is_inference() else (value._version,)
    if isinstance(value, dict):
        return tuple(value.values())
    return tuple(value) if isinstance(value, (list, set)) else ()


def _changed(strategy: Any, held: dict[tuple[int, str], tuple[Any, tuple[Any, ...]]]) -> str | None:
    """The name of an attribute that is not what it was."""
    for key, (value, contents) in _belongings(strategy).items():
        if key not in held:
            # computed once from the fields, as functools has it
            if isinstance(getattr_static(type(strategy), key[1], None), cached_property):
                continue
            return key[1]
        before, inside = held[key]
        if value is not before or len(inside) != len(contents):
            return key[1]
        if not all(map(_unchanged, inside, contents)):
            return key[1]
    return None


def _unchanged(old: Any, new: Any) -> bool:
    return old is new or (type(old) is int and old == new)
