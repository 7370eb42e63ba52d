"""Peak memory of a pass and the bytes of a cache, counted and not estimated."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

_LOG = "KINETO_LOG_LEVEL"

METHODS = {
    "cuda": "torch.cuda.max_memory_allocated over the whole pass: weights, inputs, cache and "
    "temporaries",
    "cpu": (
        "weights and inputs plus the peak of what torch's CPU allocator handed out during the "
        "prefill and one decoding "
        "step, from the allocation events of torch's profiler in a pass that is not timed; "
        "resident set size would "
        "keep what the C library has not given back from earlier passes"
    ),
}


def release() -> None:
    """Gives back what an earlier bench of this process held: its models hang in circles, which
    Python frees when it likes, and until then would count as this one's.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes behind tensors; a storage that several share counts once."""
    storages = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in tensors
    }
    return sum(storages.values())


def weights(models: Iterable[nn.Module]) -> int:
    """Bytes of parameters and buffers."""
    return bytes_of(part for model in models for part in (*model.parameters(), *model.buffers()))


def cache_bytes(cache: Any, device: torch.device) -> int:
    """Everything the layers of a key/value cache hold on the device, spare room included."""
    held = (part for layer in cache.layers for part in _tensors(vars(layer)))
    return bytes_of(part for part in held if part.device.type == device.type)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def allocated(run: Callable[[], object]) -> int:
    """The most bytes that torch's CPU allocator had handed out at once during `run`.

    On top of what was there.
    """
    # torch declares only part of its results
    profiler: Any = profile(use_cpu=True, profile_memory=True)
    with _quiet(), profiler:
        run()
    now = peak = 0
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the profiler's own two lines on the standard error stream."""
    before = os.environ.get(_LOG)
    os.environ[_LOG] = "99"
    try:
        yield
    finally:
        os.environ.pop(_LOG)
        if before is not None:
            os.environ[_LOG] = before


def reset(devices: Sequence[torch.device]) -> None:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)


def reached(devices: Sequence[torch.device]) -> int | None:
    """Bytes at the peaks since `reset`, of all devices; None where they do not say."""
    if any(device.type != "cuda" for device in devices):
        return None
    return sum(torch.cuda.max_memory_allocated(device) for device in devices)
