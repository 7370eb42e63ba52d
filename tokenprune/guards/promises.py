"""What built-in stages promise and only the device can tell: looked at where nobody waits for it.

A third party's stage is asked at once. Of the built-in ones the laws in the tests have shown that
they keep their promises, so what is left are defects of their arithmetic on a device: a few numbers
of every stage go to the host together, behind the prompt, and are looked at when the host has
waited for something else: before the next pass, when a report is read, at the end of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tokenprune.errors import StrategyError

# the error, from what was read; None where the promise was kept
Verdict = Callable[[Sequence[Any]], StrategyError | None]


class _Promise(NamedTuple):
    numbers: list[Tensor]
    verdict: Verdict


class Promises:
    """Those of one prompt, oldest first."""

    def __init__(self) -> None:
        self._made: list[_Promise] = []
        self._numbers: Tensor | None = None  # of all of them, on the host once `_there`
        self._there: torch.Event | None = None

    def make(self, numbers: Sequence[Tensor], verdict: Verdict) -> None:
        """One more: single `numbers` of a device, and what they mean."""
        self._made.append(_Promise([*numbers], verdict))

    def send(self) -> None:
        """All numbers set off for the host, which does not wait for them."""
        every = [number for promise in self._made for number in promise.numbers]
        if not every:
            return
        numbers = torch.stack([_exact(number.to(every[0].device)) for number in every])
        if numbers.device.type == "cuda" and torch.cuda.is_available():
            there = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers = there.copy_(numbers, non_blocking=True)
            self._there = torch.Event(numbers.device)
            self._there.record()
        else:
            self._numbers = numbers

    def check(self) -> None:
        """Raises StrategyError for the first promise that was not kept, once."""
        made, self._made = self._made, []
        if not made or self._numbers is None:
            return
        if self._there is not None:
            self._there.synchronize()
        read = iter(self._numbers.tolist())
        for promise in made:
            error = promise.verdict([next(read) for _ in promise.numbers])
            if error is not None:
                raise error


def _exact(number: Tensor) -> Tensor:
    """In a dtype that holds it beside the others: half precision rounds counts over 256."""
    narrow = number.is_floating_point() and number.dtype.itemsize < 4
    return number.float() if narrow else number
