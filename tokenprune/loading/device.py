"""Which device a model goes to, in which precision, and how many cores and threads there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedConfig

from tokenprune.errors import LoadingError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str) -> torch.device:
    """`auto` (the first accelerator there is), `cpu`, `cuda`, `cuda:1`, `mps`.

    LoadingError if it is absent.
    """
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return (
            torch.device("cuda", 0)
            if there["cuda"]
            else torch.device("mps" if there["mps"] else "cpu")
        )
    kind, _, index = name.partition(":")
    if kind not in there or (index and not (index.isdecimal() and kind == "cuda")):
        raise LoadingError(f"device={name} is unknown: write auto, cpu, cuda, cuda:1 or mps")
    if not there[kind] or (index and int(index) >= torch.cuda.device_count()):
        present = [known for known, present in there.items() if present]
        raise LoadingError(
            f"device={name} is not on this machine, which has {', '.join(present)}: write "
            "device=auto"
        )
    return torch.device("cuda", int(index or 0)) if kind == "cuda" else torch.device(kind)


def pick_dtype(name: str, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """`auto` is the checkpoint's own on an accelerator, and float32 on a CPU, where half precision
    is slow.
    """
    if name == "auto":
        saved = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
        return torch.float32 if device.type == "cpu" else saved
    if name not in DTYPES:
        raise LoadingError(f"dtype={name} is unknown: write auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def cores() -> int:
    """How many cores this process may use; where nobody can say, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads of torch in the block, as many as before behind it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
