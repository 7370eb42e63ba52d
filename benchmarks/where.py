"""The line that every benchmark script begins with: on what, with what, and how busy."""

from __future__ import annotations

import torch

from tokenprune.bench.plan import load_average
from tokenprune.loading.device import cores
from tokenprune.results.record import environment


def line() -> str:
    made = environment(torch.device("cpu"), torch.float32, "")
    versions = f"torch {made['versions']['torch']}, transformers {made['versions']['transformers']}"
    threads = f"{made['threads']} threads on {cores()} cores"
    return (
        f"{made['device_name']}, {threads}, {versions}, {_revision(made['git_revision'])}, {load()}"
    )


def load() -> str:
    """How many processes wanted a core in the last minute."""
    averages = load_average()
    return f"load {averages[0]:.1f}" if averages else "load unknown"


def clean() -> bool:
    """Whether what is measured is what a commit holds."""
    revision = environment(torch.device("cpu"), torch.float32, "")["git_revision"]
    return revision is not None and not revision.endswith("-dirty")


def _revision(described: str | None) -> str:
    changed = ", changed since" if described is not None and described.endswith("-dirty") else ""
    return f"revision {(described or 'unknown')[:12]}{changed}"
