"""What a device can do at best, measured: how fast it moves bytes, and how fast it multiplies.

A floor of the bench is what a part of a model has to move and to multiply at these rates, so each
is the best that was seen, before and after each turn: on a busy machine one look is not enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from tokenprune.flops import Number
from tokenprune.runtime.clock import Clock

# bytes of a buffer: more than the caches of accelerators, and than a core's share of a CPU's
_BUFFER = 256 << 20
_WIDE = 4096  # columns of the matrix that is read
_SIDES = (1024, 2048, 4096, 8192)  # of the square matrices that are multiplied
_LONG = 0.01  # seconds: a product that takes as long is large enough
_TRIES = 3


@dataclass(frozen=True)
class Machine:
    """Rates of one device; a multiply-add is one operation, half of what vendors count.

    Args:
        copy_bytes_per_s: of a copy of 256 MiB on the device, bytes read and bytes written
        read_bytes_per_s: of a matrix of 256 MiB that is multiplied by a vector, as in decoding
        multiply_adds_per_s: of a product of square matrices at the model's dtype
        spread: the lowest and highest of each, over the times that it was measured
    """

    copy_bytes_per_s: float
    read_bytes_per_s: float
    multiply_adds_per_s: float
    spread: dict[str, list[float]]

    @classmethod
    def of(cls, measured: list[dict[str, float]]) -> Machine:
        """The best of what `rates` found, once or several times."""
        found = {name: [rates[name] for rates in measured] for name in measured[0]}
        best = {name: max(values) for name, values in found.items()}
        spread = {name: [min(values), max(values)] for name, values in found.items()}
        return cls(**best, spread=spread)

    @property
    def bytes_per_s(self) -> float:
        """Of memory.

        A step of a model reads and hardly writes. On a CPU a copy is slower than a read, since a
        line is read before it is written; on a GPU they are about the same.
        """
        return max(self.copy_bytes_per_s, self.read_bytes_per_s)

    def floor_ms(self, moved: Number, multiplied: Number) -> float:
        """The least time of work that moves so many bytes and has so many multiply-adds.

        They may overlap entirely, so the longer of the two counts.
        """
        return 1e3 * max(moved / self.bytes_per_s, multiplied / self.multiply_adds_per_s)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Rates of `device` now, by the names that `Machine` has for them: half a second on a core."""
    clock = Clock([device], on=True)
    matrix = torch.ones(_BUFFER // 4 // _WIDE, _WIDE, device=device)
    target, vector = torch.empty_like(matrix), torch.ones(_WIDE, device=device)
    copied = _seconds(lambda: target.copy_(matrix), device, clock)
    del target
    # at float32, where a CPU's multiplications do not hold the memory up
    read = _seconds(lambda: matrix @ vector, device, clock)
    del matrix
    return {
        "copy_bytes_per_s": 2 * _BUFFER / copied,
        "read_bytes_per_s": _BUFFER / read,
        "multiply_adds_per_s": _multiplied(device, dtype, clock),
    }


def _multiplied(device: torch.device, dtype: torch.dtype, clock: Clock) -> float:
    """Of the size that is best, up to one whose product takes long; the factors are random.

    Zeros would draw less power, and be faster than any model.
    """
    best = 0.0
    for side in _SIDES:
        generator = torch.Generator(device).manual_seed(0)
        drawn = torch.randn(side, side, generator=generator, device=device).to(dtype)
        took = _seconds(lambda factor=drawn: factor @ factor, device, clock)
        best = max(best, side**3 / took)
        if took >= _LONG:
            break
    return best


def _seconds(run: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Of one run, the quickest of several tries.

    An accelerator is given several at once, so that their launches do not count.
    """
    runs = 1 if device.type == "cpu" else 10
    run()  # memory is mapped, kernels are chosen
    best = math.inf
    for _ in range(_TRIES):
        since = clock.now()
        for _ in range(runs):
            run()
        best = min(best, (clock.now() - since) / runs)
    return best
