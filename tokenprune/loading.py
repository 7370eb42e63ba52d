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

from tokenprune.adapters import families
from tokenprune.errors import LoadingError, UnsupportedModelError
from tokenprune.hub import folder
from tokenprune.processor import Processor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def configuration(name: str) -> PreTrainedConfig:
    """The configuration of the model `name`, without its weights.

    Raises LoadingError where there is none, UnsupportedModelError where it is of no supported family.
    """
    home = folder(name, weights=False)
    try:
        kind = json.loads((home / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise LoadingError(f"config.json of {name} cannot be read: {error}") from None
    if kind not in families():
        raise UnsupportedModelError(
            f"{name} is of the family {kind!r}: supported families are {', '.join(sorted(families()))}"
        )
    try:
        return AutoConfig.from_pretrained(home, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        raise LoadingError(f"config.json of {name} does not describe a {kind}: {error}") from None


def pick_device(name: str) -> torch.device:
    """`auto` (the first accelerator there is), `cpu`, `cuda`, `cuda:1`, `mps`. LoadingError if it is absent."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda", 0) if there["cuda"] else torch.device("mps" if there["mps"] else "cpu")
    kind, _, index = name.partition(":")
    if kind not in there or (index and not (index.isdecimal() and kind == "cuda")):
        raise LoadingError(f"device={name} is unknown: write auto, cpu, cuda, cuda:1 or mps")
    if not there[kind] or (index and int(index) >= torch.cuda.device_count()):
        present = [known for known, present in there.items() if present]
        raise LoadingError(f"device={name} is not on this machine, which has {', '.join(present)}: write device=auto")
    return torch.device("cuda", int(index or 0)) if kind == "cuda" else torch.device(kind)


def pick_dtype(name: str, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """`auto` is the checkpoint's own on an accelerator, and float32 on a CPU, where half precision is slow."""
    if name == "auto":
        saved = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
        return torch.float32 if device.type == "cpu" else saved
    if name not in DTYPES:
        raise LoadingError(f"dtype={name} is unknown: write auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def load(name: str, dtype: str = "auto", device: str = "auto") -> tuple[PreTrainedModel, Processor]:
    """The model `name` (`tiny`, a folder, a hub id) in evaluation mode, and its processor.

    Safetensors only, never code from a checkpoint. Raises LoadingError and UnsupportedModelError, before weights are
    read wherever the reason is known by then; a checkpoint that lacks weights is refused, not filled with random ones.
    """
    config = configuration(name)
    place = pick_device(device)
    kind = pick_dtype(dtype, place, config)
    processor = Processor.load(name)
    side = config.vision_config.image_size
    if (processor.pixels.height, processor.pixels.width) != (side, side):
        raise LoadingError(
            f"{name} prepares frames of {processor.pixels.height}x{processor.pixels.width} for a tower that sees "
            f"{side}x{side}: its preprocessor configuration belongs to another model"
        )
    home = folder(name)
    if not any(home.glob("*.safetensors")):
        raise LoadingError(f"{name} holds no *.safetensors weights, the only format that is read")
    try:
        with _quiet():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                home, dtype=kind, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise LoadingError(f"the weights of {name} cannot be read: {reason}") from None
    model, found = loaded
    if lacking := sorted(found["missing_keys"]):
        raise LoadingError(f"the weights of {name} lack {', '.join(lacking[:3])}: the checkpoint is not whole")
    return model.to(place).eval(), processor


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar and report of the weights: what they would say is in the errors above."""
    bar, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
