"""Models that do not fit one device: several devices, and weights in 8 or 4 bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

from tokenprune.errors import LoadingError
from tokenprune.loading.variant import Variant
from tokenprune.options import read_value


def arguments(
    variant: Variant, config: PreTrainedConfig, place: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """What `from_pretrained` is told about devices and bits; nothing for a whole model on `place`.

    A checkpoint whose weights are quantised says so in its own configuration. Raises LoadingError
    where a package is missing.
    """
    found: dict[str, Any] = {}
    if variant.bits is not None:
        _needs("bitsandbytes", f"bits={variant.bits}")
        found["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=variant.bits == 8,
            load_in_4bit=variant.bits == 4,
            bnb_4bit_compute_dtype=dtype,
        )
    if variant.device_map is not None:
        _needs("accelerate", "device_map=")
        named = variant.device_map.startswith("{")
        found["device_map"] = (
            read_value("device_map", variant.device_map) if named else variant.device_map
        )
    elif found or getattr(config, "quantization_config", None) is not None:
        _needs("accelerate", "weights in few bits")
        found["device_map"] = {"": place}  # what is quantised cannot be moved afterwards
    return found


def is_placed(model: PreTrainedModel) -> bool:
    """Whether accelerate has put the model where it is, so that nobody else may move it."""
    return getattr(model, "hf_device_map", None) is not None


def _needs(package: str, what: str) -> None:
    if find_spec(package) is None:
        raise LoadingError(f"{what} needs {package}: pip install {package}")
