"""How many samples go through a model at once: a number, or with `batch_size=auto` as many as fit.

A batch gives each sample what it gets alone, so that the number is a matter of time and memory.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.sharedctypes import RawValue
from typing import Any, TypeVar

import torch

from tokenprune.errors import ConfigError
from tokenprune.options import AUTO, Size
from tokenprune.strategy import Extent

# on an accelerator: samples of a batch at first, and visual tokens of all of them together
_MOST, _TOKENS = 32, 131_072

# as PyTorch says it of a GPU, of Apple's, and of a CPU
_TOLD = (
    "CUDA out of memory",
    "MPS backend out of memory",
    "DefaultCPUAllocator: can't allocate memory",
)

Part = TypeVar("Part")
Made = TypeVar("Made")


class BatchSize:
    """The number of samples in a batch.

    One that `shrinks` halves where a batch does not fit into memory, and stays so. The number is
    shared with the processes that decode.
    """

    def __init__(self, size: int, shrinks: bool = False) -> None:
        self.began, self.shrinks = size, shrinks
        self.used: set[int] = set()  # numbers under which something was answered
        self._now: Any = RawValue("i", size)

    @property
    def now(self) -> int:
        return self._now.value

    def halve(self, tried: int) -> None:
        """Once or more, until it is below the `tried` samples that did not fit."""
        while self.now > 1 and self.now >= tried:
            self._now.value = self.now // 2

    def as_dict(self) -> dict[str, Any]:
        """What became of it, as it is written down."""
        return {"asked": AUTO if self.shrinks else self.began, "began": self.began} | {
            "settled": self.now
        }


def batch_size(asked: Size, device: str, extent: Extent) -> BatchSize:
    """The `asked` number or, of `auto`, one to begin with on this type of device.

    On a CPU that is one sample, since a batch takes its memory and saves no time there; else up to
    32, or as many as have 131,072 visual tokens together before any is dropped.
    """
    if asked != AUTO:
        return BatchSize(int(asked))
    if device == "cpu":
        return BatchSize(1, shrinks=True)
    tokens = max(1, extent.frames * extent.cells)
    return BatchSize(max(1, min(_MOST, _TOKENS // tokens)), shrinks=True)


def halves(size: int) -> list[int]:
    """The number itself, and what may become of it."""
    found = [size]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def parts(members: Sequence[Part], size: int) -> list[Sequence[Part]]:
    """The members in order, at most `size` at a time."""
    return [members[start : start + size] for start in range(0, len(members), size)]


def fitted(
    whole: Sequence[Part], size: BatchSize, answer: Callable[[Sequence[Part]], Made]
) -> Iterator[tuple[Sequence[Part], Made]]:
    """What `answer` makes of a batch, in as many parts as fit into memory, with their members.

    ConfigError where one sample does not fit, or where the number is the user's.
    """
    waiting: list[Sequence[Part]] = [whole]
    while waiting:
        members = waiting.pop(0)
        if len(members) > size.now:
            waiting = [*parts(members, size.now), *waiting]
            continue
        try:
            made = answer(members)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if not size.shrinks or len(members) == 1:
                raise ConfigError(_too_much(len(members))) from error
        else:
            size.used.add(size.now)
            yield members, made
            continue
        # only here: the exception held what the batch had made
        _release()
        size.halve(len(members))
        waiting = [members, *waiting]


def _out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error) for words in _TOLD)


def _release() -> None:
    """Gives what is not used any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _too_much(samples: int) -> str:
    if samples > 1:
        return (
            f"{samples} samples at once do not fit into memory: write batch_size=auto, or a "
            "smaller number"
        )
    return (
        "not even one sample fits into memory: write fewer frames=, dtype=bfloat16, or "
        "device_map=auto where there are several devices"
    )
