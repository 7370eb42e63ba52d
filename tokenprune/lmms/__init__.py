"""lmms-eval and tokenprune, both ways: its tasks here (`task=lmms:NAME`), our models there (`--model tokenprune`).

This module is the payload of the entry point `lmms_eval.models`, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

from tokenprune.errors import LmmsError

MODEL = "tokenprune"  # as in `lmms-eval --model tokenprune`


def require() -> None:
    """Raises LmmsError where lmms-eval is not installed."""
    from importlib.util import find_spec

    if find_spec("lmms_eval") is None:
        raise LmmsError("lmms-eval is not installed: pip install 'tokenprune-video[lmms]'")


def manifest() -> Any:
    """What lmms-eval's registry wants to know about `--model tokenprune`."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest(model_id=MODEL, simple_class_path="tokenprune.lmms.model.TokenPrune")
