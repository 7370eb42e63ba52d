"""Where `device=` and `trainer.*` put the model, and in which precision; without Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from tokenprune.errors import ConfigError
from tokenprune.evaluation.logs import KEY
from tokenprune.loading.checkpoint import configuration
from tokenprune.loading.device import pick_device, pick_dtype

_SPREAD = {"accelerator", "devices", "num_nodes", "strategy"}
_DEVICES = {"gpu": "cuda", "cuda": "cuda", "mps": "mps"}
_WHOLE = {"32-true": "float32", "32": "float32", "bf16-true": "bfloat16", "16-true": "float16"}


class Placement(NamedTuple):
    """What `load` takes as dtype and device, what is left for the Trainer, and on which type of
    device the model answers.
    """

    dtype: str
    device: str
    trainer: dict[str, Any]
    kind: str


def placement(
    model: str,
    *,
    dtype: str,
    device: str,
    trainer: Mapping[str, Any],
    spread: bool = False,
    begun: str | None = None,
) -> Placement:
    """Where a model goes and in which precision. ConfigError where two of the keys contradict.

    The dtype is settled here, so that it can be written down: `auto` is `begun`, if a run goes on
    that was begun so, else what `pick_dtype` picks on the device. Where Lightning spreads the model
    it is loaded on the CPU: only its processes know which device is theirs. `spread`: accelerate
    puts the model on several devices.
    """
    # what logs results moves no model
    options = {name: value for name, value in trainer.items() if name != KEY}
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
        where = pick_device(device)
        return Placement(_settled(model, dtype, where), device, options, where.type)
    if spread:
        names = " ".join(f"trainer.{name}=" for name in trainer if name in _SPREAD)
        raise ConfigError(
            f"device_map= spreads one model over the devices that {names} would give one model "
            "each: leave one of them out"
        )
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"device={device} is one device: leave it out, and write trainer.accelerator=gpu "
            "instead"
        )
    options = {"accelerator": "cpu" if device == "cpu" else "auto", "devices": "auto", **options}
    where = pick_device(
        "auto" if options["accelerator"] == "auto" else _DEVICES.get(options["accelerator"], "cpu")
    )
    return Placement(_settled(model, dtype, where), "cpu", options, where.type)


def _settled(model: str, dtype: str, where: torch.device) -> str:
    return str(pick_dtype(dtype, where, configuration(model))).removeprefix("torch.")
