"""Architectures at their real size with random weights.

Speed and memory do not depend on what a model has learnt.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from tokenprune.bench.config import SHAPE
from tokenprune.bench.published import SHAPES, published, published_frames
from tokenprune.errors import ConfigError
from tokenprune.loading.configuration import configuration, frame_settings
from tokenprune.loading.hub import folder


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


def shape_frames(name: str, reads: str) -> dict[str, Any]:
    """How the model behind `shape:NAME` prepares frames; empty where nothing says so.

    `reads` is the kind of processor that a folder is asked about.
    """
    wanted = name.removeprefix(SHAPE)
    if wanted in SHAPES:
        return published_frames(wanted)
    home = folder(wanted, weights=False)
    written = any(home.glob("*processor_config.json"))
    return frame_settings(home, reads) if written else {}


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
