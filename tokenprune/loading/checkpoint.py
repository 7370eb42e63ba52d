"""`load`: a name to a model on its device and the processor that goes with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from tokenprune.adapters import VideoLLM, adapt
from tokenprune.errors import LoadingError
from tokenprune.loading import native
from tokenprune.loading.configuration import configuration, contents
from tokenprune.loading.device import pick_device, pick_dtype
from tokenprune.loading.hub import folder
from tokenprune.loading.llava_video import LlavaVideoConfig
from tokenprune.loading.processor import Processor
from tokenprune.loading.spread import arguments
from tokenprune.loading.variant import STOCK, Prompted, Variant

Chosen = TypeVar("Chosen", bound=Variant)


class Loaded(NamedTuple):
    """A model on its device, and the processor that makes its prompts."""

    model: PreTrainedModel
    processor: Processor


def outline(settings: PreTrainedConfig) -> VideoLLM:
    """The architecture without memory for its weights: enough to count its layers and cells."""
    with torch.device("meta"):
        return adapt(AutoModelForImageTextToText.from_config(settings))


def settled(variant: Chosen, config: PreTrainedConfig, processor: Processor) -> Chosen:
    """`variant` with what the checkpoint says where it leaves something open, to be written down.

    `Chosen` is any dataclass of a command.
    """
    found: dict[str, Any] = {}
    if isinstance(variant, Prompted):
        found["template"] = processor.template_name
    if isinstance(config, LlavaVideoConfig):
        found.update(pool=config.pool, newline=config.newline, newline_rule=config.newline_rule)
    return replace(variant, **found)


def load(name: str, dtype: str = "auto", device: str = "auto", variant: Variant = STOCK) -> Loaded:
    """The model `name` (`tiny`, a folder, a hub id) in evaluation mode, and its processor.

    Safetensors only, never code from a checkpoint; those of the `llava` package are read where they
    lie. Raises LoadingError and UnsupportedModelError, before weights are read wherever the reason
    is known by then; a checkpoint that lacks weights is refused, not filled with random ones.
    """
    config = configuration(name, variant)
    place = pick_device(device)
    kind = pick_dtype(dtype, place, config)
    processor = Processor.load(name, variant)
    spread = arguments(variant, config, place, kind)
    model = _weighted(name, config, {"dtype": kind, **spread})
    if not spread:
        model.to(place)  # pyright: ignore[reportArgumentType]
    return Loaded(model.eval(), processor)


def _weighted(name: str, config: PreTrainedConfig, settings: Mapping[str, Any]) -> PreTrainedModel:
    """The model with its weights, all of them and no others; `settings` are `from_pretrained`'s.

    Raises LoadingError.
    """
    home = folder(name)
    if not any(home.glob("*.safetensors")):
        raise LoadingError(f"{name} holds no *.safetensors weights, the only format that is read")
    original = native.is_native(contents(home, name))
    try:
        with _quiet():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                home,
                config=config,
                **settings,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                key_mapping=native.KEYS if original else None,
            )
    except (OSError, SafetensorError, ValueError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise LoadingError(f"the weights of {name} cannot be read: {reason}") from None
    model, found = loaded
    if lacking := sorted(found["missing_keys"]):
        raise LoadingError(
            f"the weights of {name} lack {', '.join(lacking[:3])}: the checkpoint is not whole"
        )
    foreign = [key for key in found["unexpected_keys"] if not key.endswith(native.COMPUTED)]
    if original and foreign:
        raise LoadingError(
            f"the weights of {name} hold {', '.join(sorted(foreign)[:3])}, which is no part of "
            "LLaVA-OneVision: it would answer as another model"
        )
    if original:
        # transformers would save under the names it has read, beside a configuration of its own
        model._weight_conversions = []
    return model


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
