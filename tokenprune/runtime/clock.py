"""Where the time of a prompt goes: laps by name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

PREFILL_LAPS = ("vision", "strategy", "probe", "prefill")


class Clock:
    """Laps in seconds by name; waits for its devices, so it is off unless timing is asked for.

    A lap inside another is not counted twice: a strategy that runs within the prefill is taken out
    of it.
    """

    def __init__(self, devices: Sequence[torch.device], on: bool) -> None:
        self.on = on
        self._awaited = [device for device in devices if device.type != "cpu"]
        self.laps: dict[str, list[float]] = {}
        self._inner = 0.0

    def now(self) -> float:
        if self.on:
            for device in self._awaited:
                torch.accelerator.synchronize(device)
        return time.perf_counter()

    def add(self, name: str, since: float) -> None:
        """Ends a lap that began at `since`, without what inner laps took."""
        if self.on:
            self.laps.setdefault(name, []).append(self.now() - since - self._inner)
        self._inner = 0.0

    def milliseconds(self) -> dict[str, float | None]:
        """Of the laps of a prefill, their sums; of decoding, the mean of a token."""
        decode, choosing = self.laps.get("decode", []), self.laps.get("choosing", [])
        step = 1e3 * (sum(decode) + sum(choosing)) / len(decode) if decode else None
        chosen = 1e3 * sum(choosing) / len(decode) if choosing else None
        return {
            **{f"{name}_ms": 1e3 * sum(self.laps.get(name, [0.0])) for name in PREFILL_LAPS},
            "decode_ms_per_token": step,
            "choosing_ms_per_token": chosen,
        }

    def forget_inner(self) -> None:
        """What inner laps took so far lies outside the lap that begins now."""
        self._inner = 0.0

    @contextmanager
    def inner(self, name: str) -> Iterator[None]:
        """A lap within another."""
        if not self.on:
            yield
            return
        outer, self._inner, since = self._inner, 0.0, self.now()
        try:
            yield
        finally:
            taken = self.now() - since
            self.laps.setdefault(name, []).append(taken - self._inner)
            self._inner = outer + taken
