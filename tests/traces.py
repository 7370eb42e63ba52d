"""What an attachment could leave behind, and what it says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface


def fingerprint(model):
    """Everything an attachment could leave on an instance, or in the process."""
    hooks = {
        (name, kind): list(getattr(module, kind))
        for name, module in model.named_modules()
        for kind in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_forward_hooks_with_kwargs",
            "_forward_pre_hooks_with_kwargs",
        )
    }
    attributes = {name: sorted(vars(module)) for name, module in model.named_modules()}
    parts = {name: part for name, part in model.named_modules() if hasattr(part, "config")}
    configs = [config.to_dict() for config in (model.config, model.model.language_model.config)]
    chosen = {name: part.config._attn_implementation for name, part in parts.items()}
    registries = [
        sorted(AttentionInterface._global_mapping),
        sorted(AttentionMaskInterface._global_mapping),
    ]
    return hooks, attributes, configs, chosen, registries


@contextmanager
def remarks() -> Iterator[list[warnings.WarningMessage]]:
    """Collects every warning of the block instead of failing at the first."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
