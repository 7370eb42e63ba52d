"""How many rows a model's positions were made for, and what is said about a prompt with more."""

from __future__ import annotations

from typing import Any

import pytest
from models import llava_onevision
from transformers import Qwen2Config

from tokenprune.adapters.context import context_of

YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "rows"),
    [
        (None, 100),
        ({"rope_type": "default", "rope_theta": 1e6}, 100),
        ({"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}, 200),
        (YARN, 400),
        ({**YARN, "original_max_position_embeddings": 25}, 100),
        ({**YARN, "original_max_position_embeddings": 50}, 200),
    ],
)
def test_the_context_counts_stretched_positions(rope: dict[str, Any] | None, rows: int) -> None:
    assert context_of(Qwen2Config(max_position_embeddings=100, rope_parameters=rope)) == rows  # pyright: ignore


def test_the_context_is_the_language_models() -> None:
    model = llava_onevision()
    assert context_of(model.config) == context_of(model.config.text_config) == 4096
    assert context_of(model.config.vision_config) is None
