"""Scores are float32 wherever they are computed, also under autocast.

Autocast would compute their products in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
# device types that torch can switch to half precision by itself
AUTOCAST = ("cuda", "cpu", "xpu", "mps")


def full_precision() -> AbstractContextManager[Callable[[], AbstractContextManager[object]]]:
    """Outside autocast, which computes products of float32 tensors in half precision.

    Yields what brings the caller's autocast back for a while, as a model's own layers need it.
    """
    active = [kind for kind in AUTOCAST if torch.is_autocast_enabled(kind)]
    return _outside(active) if active else nullcontext(nullcontext)  # every decoding step asks


@contextmanager
def _outside(active: Sequence[str]) -> Iterator[Callable[[], AbstractContextManager[object]]]:
    dtypes = [torch.get_autocast_dtype(kind) for kind in active]

    def back() -> AbstractContextManager[object]:
        stack = ExitStack()
        for kind, dtype in zip(active, dtypes, strict=True):
            stack.enter_context(torch.autocast(kind, dtype))
        return stack

    with ExitStack() as stack:
        for kind in active:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield back


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates what computes scores: it runs in `full_precision`, whoever calls it."""

    @wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        with full_precision():
            return function(*args, **kwargs)

    return outside
