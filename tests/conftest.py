"""Test session set-up: one deterministic Hypothesis profile, and readable assertions inside the
laws.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

# the models are small and the suite runs on several processes: threads would only wait for each
# other
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
