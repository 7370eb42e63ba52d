"""Test session set-up: one deterministic Hypothesis profile, and readable assertions inside the laws."""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("laws")

settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
