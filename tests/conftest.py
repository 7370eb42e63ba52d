"""Set-up of the tests: Hypothesis without chance, readable assertions, a registry left clean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# models are small and the suite runs on several processes: threads would only wait for each other
torch.set_num_threads(1)

settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """Strategies, tasks and families that a test defines, and its plug-ins, are gone after it."""
    # after jaxtyping's hook, which wraps what is imported
    from tokenprune.lookup import PLUGGABLE

    known, modules = [dict(kind.defined) for kind in PLUGGABLE], set(sys.modules)
    yield
    for kind, before in zip(PLUGGABLE, known, strict=True):
        for name, thing in list(kind.defined.items()):
            if name not in before and not thing.__module__.startswith("tokenprune."):
                del kind.defined[name]
        kind.defined.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("tokenprune_plugin_"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def protocol_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: lmms-eval reads where videos are when a benchmark's code is first imported."""
    from protocol_docs import write

    return write(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def nine_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its page, which tests only read: the last sample asks about a needle."""
    from tokenprune.cli.main import main

    folder = tmp_path_factory.mktemp("nine") / "run"
    words = ["strategy=visionzip+dytok", "samples=9", "device=cpu", "frames=8", "max_new_tokens=2"]
    assert main(["run", *words, f"out={folder}"]) == 0
    return folder
