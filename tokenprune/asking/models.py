"""A model by its name, with what `tokenprune run` may choose about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tokenprune import checkpoints
from tokenprune.errors import ConfigError, LoadingError
from tokenprune.loading import checkpoint
from tokenprune.loading.checkpoint import Loaded
from tokenprune.loading.processor import Processor
from tokenprune.loading.variant import Prompted
from tokenprune.options import nearest


def load(name: str | Path, *, dtype: str = "auto", device: str = "auto", **choices: Any) -> Loaded:
    """The model `name` in evaluation mode and its processor: `model, processor = load("tiny")`.

    Args:
        name: an embedded model (`tiny`, `nano`), a folder, or a hub id
        dtype: auto, float32, bfloat16 or float16; auto is float32 on a CPU, else the checkpoint's
        device: auto (the first accelerator there is), cpu, cuda, cuda:1 or mps
        choices: as of `tokenprune run`: `device_map` ("auto", or {MODULE: DEVICE}), `bits` (8 or
            4), `template`, `time_instruction`, and `pool`, `newline`, `newline_rule` of LLaVA-Video

    Safetensors only, never code from a checkpoint. Raises LoadingError, UnsupportedModelError, and
    ConfigError for a choice that there is not.
    """
    known = [one.name for one in fields(Prompted)]
    for choice in choices:
        if choice not in known:
            near = nearest(choice, known)
            hint = f"did you mean {near}=? " if near else ""
            raise ConfigError(f"load() takes no {choice}=: {hint}It takes {', '.join(known)}")
    if isinstance(places := choices.get("device_map"), Mapping):
        choices["device_map"] = json.dumps({part: _plain(place) for part, place in places.items()})
    variant = Prompted(**choices)
    if variant.device_map is not None and device != "auto":
        raise ConfigError(
            f"device={device!r} is one device and device_map= several: leave one of them out"
        )
    return checkpoint.load(str(name), dtype, device, variant)


def whole(model: Loaded | PreTrainedModel | tuple[Any, Any] | str | Path) -> Loaded:
    """A model with the processor that goes with it: loaded by name, or as it was loaded.

    Of a stock model it is read from where `from_pretrained` found the model. Raises LoadingError.
    """
    if isinstance(model, Loaded):
        return model
    if isinstance(model, str | Path):
        return load(model)
    if isinstance(model, tuple) and len(model) == 2:
        return Loaded(*model)
    source = getattr(getattr(model, "config", None), "name_or_path", "")
    if not source:
        raise LoadingError(
            "it is not known where this model came from, and so not how its prompts are written: "
            "pass what tokenprune.load returns, or a pair of the model and its processor"
        )
    return Loaded(model, Processor.load(source))


def note(*models: PreTrainedModel | None) -> str | None:
    """What figures made with `models` are worth, where any is an embedded one."""
    folders = (one.config.name_or_path for one in models if one is not None)
    return checkpoints.note(*map(checkpoints.embedded, folders))


def _plain(place: Any) -> Any:
    """A device as a line of text can have it."""
    return place if isinstance(place, int) else str(place)
