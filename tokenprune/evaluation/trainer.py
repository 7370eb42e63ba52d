"""Lightning's Trainer with a user's `trainer.*` keys, and where `device=` puts the model.

Keys that make no sense here are refused before anything loads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from tokenprune.errors import ConfigError
from tokenprune.evaluation.manners import quiet
from tokenprune.loading.checkpoint import configuration
from tokenprune.loading.device import pick_device, pick_dtype

# of a process for the others at the end of a system: shares differ in length
_PATIENCE = timedelta(days=2)
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
_AUTOCAST = {
    "bf16-mixed": "bf16-mixed",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
    "16": "16-mixed",
}
_SPREAD = {"accelerator", "devices", "num_nodes", "strategy"}
_DEVICES = {"gpu": "cuda", "cuda": "cuda", "mps": "mps"}
_PRECISIONS = ("32-true", "bf16-true", "16-true", "bf16-mixed", "16-mixed")
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
    options = dict(trainer)
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
