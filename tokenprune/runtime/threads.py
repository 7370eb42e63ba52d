"""What belongs to one thread's forward pass, so that threads can share an attached model without
seeing each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from torch import nn

from tokenprune.runtime.again import Again
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.flight import Flight
from tokenprune.runtime.prompt_state import Prompt
from tokenprune.runtime.report import Clock
from tokenprune.runtime.tower import TowerReading


class Pass(threading.local):
    """The forward pass under way in the current thread; every thread begins with an empty one."""

    def __init__(self, device: torch.device, timed: bool) -> None:
        self.flight: Flight | None = None
        # what the last pass of the language model made of a prompt
        self.passed: Prompt | None = None
        self.readings: list[TowerReading] = []
        self.again: Again | None = None  # what `generate` may send again
        self.clock = Clock(device, timed)
        self.since = 0.0


class Taps(MutableMapping[nn.Module, Tap]):
    """Taps by attention module, of the current thread."""

    def __init__(self) -> None:
        self._local = _Taps()

    def __getitem__(self, module: nn.Module) -> Tap:
        return self._local.taps[module]

    def __setitem__(self, module: nn.Module, tap: Tap) -> None:
        self._local.taps[module] = tap

    def __delitem__(self, module: nn.Module) -> None:
        del self._local.taps[module]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._local.taps)

    def __len__(self) -> int:
        return len(self._local.taps)

    def get(self, key: nn.Module, default: Any = None) -> Any:
        """Every attention layer of every step asks this, mostly in vain: no exception is made on
        the way.
        """
        return self._local.taps.get(key, default)


class _Taps(threading.local):
    def __init__(self) -> None:
        self.taps: dict[nn.Module, Tap] = {}
