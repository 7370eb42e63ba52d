"""`device=` and `dtype=`, or Lightning's `trainer.*`: where a model goes and in which precision.

And how many cores.
"""

from __future__ import annotations

from typing import Any

import torch

from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import RunConfig
from tokenprune.loading.checkpoint import configuration
from tokenprune.loading.device import pick_device, pick_dtype

_SPREAD = {"accelerator", "devices", "num_nodes", "strategy"}
_DEVICES = {"gpu": "cuda", "cuda": "cuda", "mps": "mps"}
_WHOLE = {"32-true": "float32", "32": "float32", "bf16-true": "bfloat16", "16-true": "float16"}


def placement(config: RunConfig, begun: str | None = None) -> tuple[str, str, dict[str, Any]]:
    """What `load` takes as dtype and device, and what is left for the Trainer. ConfigError where
    the two contradict.

    The dtype is settled here, so that it can be written down: `auto` is `begun`, if a run goes on
    that was begun so, else what `pick_dtype` picks on the device. Where Lightning spreads the model
    it is loaded on the CPU: only its processes know which device is theirs.
    """
    options, dtype, device = dict(config.trainer), config.dtype, config.device
    if whole := _WHOLE.get(str(options.get("precision"))):
        if dtype not in ("auto", whole):
            raise ConfigError(
                f"dtype={dtype} and trainer.precision={options['precision']} differ: write one of "
                "them"
            )
        dtype = whole
        del options["precision"]
    if dtype == "auto" and begun is not None:
        dtype = begun
    if not _SPREAD & set(options):
        return _settled(config, dtype, pick_device(device)), device, options
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"device={device} is one device: leave it out, and write trainer.accelerator=gpu "
            "instead"
        )
    options = {"accelerator": "cpu" if device == "cpu" else "auto", "devices": "auto", **options}
    where = pick_device(
        "auto" if options["accelerator"] == "auto" else _DEVICES.get(options["accelerator"], "cpu")
    )
    return _settled(config, dtype, where), "cpu", options


def _settled(config: RunConfig, dtype: str, where: torch.device) -> str:
    return str(pick_dtype(dtype, where, configuration(config.model))).removeprefix("torch.")
