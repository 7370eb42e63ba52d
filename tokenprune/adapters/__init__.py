"""One file per family of video LLMs; `adapt(model)` picks the one that fits an instance."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from transformers import PreTrainedModel

from tokenprune.adapters.base import FAMILIES, VideoLLM
from tokenprune.errors import UnsupportedModelError

__all__ = ["UnsupportedModelError", "VideoLLM", "adapt", "families"]


@cache
def families() -> dict[str, type[VideoLLM]]:
    """Supported families by `config.model_type`: every file of this folder declares one."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return FAMILIES


def adapt(model: PreTrainedModel) -> VideoLLM:
    """The adapter of an instance in memory; UnsupportedModelError names the supported families."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in families():
        raise UnsupportedModelError(
            f"{type(model).__name__} ({kind}) has no video tokens that tokenprune can find: "
            f"supported families are {', '.join(sorted(families()))}"
        )
    return families()[kind](model)
