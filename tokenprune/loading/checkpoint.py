"""`load`: a name to a model on its device and the processor that goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from tokenprune.adapters import VideoLLM, adapt, families
from tokenprune.errors import LoadingError, UnsupportedModelError
from tokenprune.loading.device import pick_device, pick_dtype
from tokenprune.loading.hub import folder
from tokenprune.loading.processor import Processor
from tokenprune.lookup import FAMILIES


def configuration(name: str) -> PreTrainedConfig:
    """The configuration of the model `name`, without its weights.

    Raises LoadingError where there is none, UnsupportedModelError where it is of no supported
    family.
    """
    home = folder(name, weights=False)
    try:
        kind = json.loads((home / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise LoadingError(f"config.json of {name} cannot be read: {error}") from None
    if kind not in families():
        FAMILIES.refuse_broken(str(kind))
        raise UnsupportedModelError(
            f"{name} is of the family {kind!r}: supported families are "
            f"{', '.join(sorted(families()))}"
        )
    try:
        return AutoConfig.from_pretrained(home, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        raise LoadingError(f"config.json of {name} does not describe a {kind}: {error}") from None


def outline(settings: PreTrainedConfig) -> VideoLLM:
    """The architecture without memory for its weights: enough to count its layers and cells."""
    with torch.device("meta"):
        return adapt(AutoModelForImageTextToText.from_config(settings))


def load(name: str, dtype: str = "auto", device: str = "auto") -> tuple[PreTrainedModel, Processor]:
    """The model `name` (`tiny`, a folder, a hub id) in evaluation mode, and its processor.

    Safetensors only, never code from a checkpoint. Raises LoadingError and UnsupportedModelError,
    before weights are read wherever the reason is known by then; a checkpoint that lacks weights is
    refused, not filled with random ones.
    """
    config = configuration(name)
    place = pick_device(device)
    kind = pick_dtype(dtype, place, config)
    processor = Processor.load(name)
    side = config.vision_config.image_size
    if (processor.pixels.height, processor.pixels.width) != (side, side):
        raise LoadingError(
            f"{name} prepares frames of {processor.pixels.height}x{processor.pixels.width} for a "
            "tower that sees "
            f"{side}x{side}: its preprocessor configuration belongs to another model"
        )
    home = folder(name)
    if not any(home.glob("*.safetensors")):
        raise LoadingError(f"{name} holds no *.safetensors weights, the only format that is read")
    try:
        with _quiet():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                home,
                dtype=kind,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise LoadingError(f"the weights of {name} cannot be read: {reason}") from None
    model, found = loaded
    if lacking := sorted(found["missing_keys"]):
        raise LoadingError(
            f"the weights of {name} lack {', '.join(lacking[:3])}: the checkpoint is not whole"
        )
    return model.to(place).eval(), processor


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar and report of the weights: what they would say is in the errors
    above.
    """
    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
