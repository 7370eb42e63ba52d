"""Set-up of the tests: Hypothesis without chance, readable assertions, a registry left clean."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

# models are small and the suite runs on several processes: threads would only wait for each other
torch.set_num_threads(1)

pytest.register_assert_rewrite("laws")

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
    """Strategies that a test defines, and plug-ins that it loads, are gone after it."""
    # after jaxtyping's hook, which wraps what is imported
    from tokenprune.strategy import REGISTERED

    known, modules = dict(REGISTERED), set(sys.modules)
    yield
    for name, kind in list(REGISTERED.items()):
        if name not in known and not kind.__module__.startswith("tokenprune."):
            del REGISTERED[name]
    REGISTERED.update(known)
    for name in set(sys.modules) - modules:
        if name.startswith("tokenprune_plugin_"):
            del sys.modules[name]
