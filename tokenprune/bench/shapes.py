"""Architectures at their real size with random weights.

Speed and memory do not depend on what a model has learnt.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from tokenprune.bench.config import SHAPE
from tokenprune.bench.published import SHAPES, published
from tokenprune.errors import ConfigError
from tokenprune.loading.checkpoint import configuration


def is_shape(name: str) -> bool:
    return name.startswith(SHAPE)


def shape_configuration(name: str) -> PreTrainedConfig:
    """The configuration behind `shape:NAME`: a known size, a folder or an embedded model.

    Weights are not read. Raises ConfigError for another name.
    """
    wanted = name.removeprefix(SHAPE)
    if wanted in SHAPES:
        return published(wanted)
    if wanted in ("tiny", "nano") or Path(wanted).expanduser().is_dir():
        return configuration(wanted)
    near = get_close_matches(wanted, SHAPES, n=1)
    hint = f"did you mean {SHAPE}{near[0]}? " if near else ""
    raise ConfigError(
        f"model={name} is not a shape: {hint}Known: {', '.join(SHAPES)}, and a folder with a "
        "config.json"
    )


def build(
    config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> PreTrainedModel:
    """A model of that configuration with random weights, made on the device.

    Other random numbers stay as they are.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        made = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    return made.to(device).eval()
