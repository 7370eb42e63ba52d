"""Lightning's Trainer with a user's `trainer.*` keys.

Keys that make no sense here are refused before anything loads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from tokenprune.errors import ConfigError
from tokenprune.evaluation.manners import quiet
from tokenprune.loading.device import pick_device

# of a process for the others at the end of a system: shares differ in length
_PATIENCE = timedelta(days=2)
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
_AUTOCAST = {
    "bf16-mixed": "bf16-mixed",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
    "16": "16-mixed",
}
_PRECISIONS = ("32-true", "bf16-true", "16-true", "bf16-mixed", "16-mixed")


def check(options: Mapping[str, Any], device: torch.device) -> None:
    """ConfigError for options under which an evaluation on `device` would fail, or be another than
    it says.
    """
    name = options.get("strategy", "auto")
    if name not in _STRATEGIES:
        raise ConfigError(
            f"trainer.strategy={name} {_reason(str(name))}: write trainer.strategy=ddp"
        )
    precision = options.get("precision")
    if precision is not None and str(precision) not in _AUTOCAST:
        raise ConfigError(
            f"trainer.precision={precision} is not one that models are evaluated in: write one of "
            f"{', '.join(_PRECISIONS)}"
        )
    kind = options.get("accelerator", device.type)
    if (pick_device("auto").type if kind == "auto" else kind) == "cpu" and _AUTOCAST.get(
        str(precision)
    ) == "16-mixed":
        raise ConfigError(
            f"trainer.precision={precision} needs a GPU: write trainer.precision=bf16-mixed, or "
            "32-true"
        )
    with quiet():
        trainer_of(device, options, [])


def _reason(name: str) -> str:
    if any(part in name for part in ("spawn", "fork", "notebook")):
        return "starts processes by copying this one, from which no results come back"
    if name.startswith(("fsdp", "deepspeed", "model_parallel")):
        return "spreads one model over processes, which generating answers does not work with"
    return "is not a way of using several processes here"


def trainer_of(
    device: torch.device, options: Mapping[str, Any], callbacks: Sequence[Callback]
) -> Trainer:
    """One process on the model's device, unless Lightning's options say otherwise.

    Raises ConfigError.
    """
    chosen: dict[str, Any] = {
        "accelerator": {"cuda": "gpu"}.get(device.type, device.type),
        "devices": [device.index or 0] if device.type == "cuda" else 1,
        **options,
    }
    if named := _AUTOCAST.get(str(chosen.get("precision"))):
        chosen["precision"] = named
    several = chosen.pop("strategy", "auto") != "auto"
    patient = {**chosen, "strategy": DDPStrategy(timeout=_PATIENCE)}
    try:
        trainer = _trainer(patient if several else chosen, callbacks)
        # Lightning's own choice, which waits less
        if not several and isinstance(trainer.strategy, DDPStrategy):
            trainer = _trainer(patient, callbacks)
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        told = " ".join(f"trainer.{name}={value}" for name, value in options.items())
        raise ConfigError(
            f"Lightning does not take {told}: {' '.join(str(error).split())}"
        ) from None
    return trainer


def _trainer(chosen: Mapping[str, Any], callbacks: Sequence[Callback]) -> Trainer:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*GPU available but not used", category=UserWarning)
        return Trainer(
            **chosen,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bool(callbacks),
            use_distributed_sampler=False,  # the samples are shared out already
        )
