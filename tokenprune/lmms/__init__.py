"""lmms-eval and tokenprune, both ways: its tasks here (`task=lmms:NAME`), our models there
(`--model tokenprune`).

This module is the payload of the entry point `lmms_eval.models`, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

MODEL = "tokenprune"  # as in `lmms-eval --model tokenprune`


def manifest() -> Any:
    """What lmms-eval's registry wants to know about `--model tokenprune`."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest(model_id=MODEL, simple_class_path="tokenprune.lmms.model.TokenPrune")
