"""Finished cells on disk: one JSON-lines file each, whose first line says under which settings it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import tokenprune
from tokenprune.errors import ConfigError
from tokenprune.folder import replace
from tokenprune.loading import configuration, pick_device, pick_dtype
from tokenprune.resolve import resolved_fields
from tokenprune.reuse import content_key
from tokenprune.study.config import SELF, StudyConfig
from tokenprune.study.plan import Cell

_COMPARED = ("task", "model", "frames", "sampling", "samples", "limit", "seed", "max_new_tokens", "batch_size")


@dataclass(frozen=True)
class Place:
    """Where the study's models run, and what they are at the moment."""

    device: torch.device
    dtype: str
    weights: Mapping[str, str]  # fingerprints of what a model's folder holds, by its name


def place_of(config: StudyConfig, cells: Sequence[Cell]) -> Place:
    """Raises LoadingError, UnsupportedModelError."""
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device, configuration(config.model))
    names = {config.model, *(cell.guided_by for cell in cells)} - {SELF, None}
    weights = {str(name): content_key(str(name))[:16] for name in names}
    return Place(device, str(dtype).removeprefix("torch."), weights)


def settings(config: StudyConfig, cell: Cell, place: Place, task: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a cell's answers depend on, `task` being that task's fingerprint, as JSON reads it back."""
    names = {"weights": config.model, "guide_weights": cell.guided_by}
    found = {
        **{key: getattr(config, key) for key in _COMPARED},
        "device": place.device.type,
        "dtype": place.dtype,
        "versions": {"tokenprune": tokenprune.__version__, **{n: version(n) for n in ("torch", "transformers")}},
        **{key: place.weights[name] for key, name in names.items() if name in place.weights},
        "pipeline": resolved_fields(cell.pipeline) if cell.pipeline else None,
        "guide": cell.guided_by,
        "task_fingerprint": dict(task),
    }
    return json.loads(json.dumps(found))


def write(file: Path, made_with: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """The whole file or none of it."""
    lines = [json.dumps(line, allow_nan=False) for line in ({"made_with": made_with}, *records)]
    replace(file, "\n".join(lines) + "\n")


def finished(file: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the cell is there. ConfigError where it was made with other settings than `wanted`."""
    try:
        with file.open(encoding="utf-8") as lines:
            made_with = json.loads(next(lines))["made_with"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, StopIteration):
        raise ConfigError(f"{file} is no cell of a study: remove it, or write another out=") from None
    for key, then, now in _differences(made_with, wanted):
        raise ConfigError(
            f"{file} was made with {key}={then}, which now is {now}: write another out=, or remove {file.parent}"
        )
    return True


def read(file: Path) -> list[dict[str, Any]]:
    """The records of a finished cell, in the task's order."""
    with file.open(encoding="utf-8") as lines:
        next(lines)
        return [json.loads(line) for line in lines]


def _differences(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif then != now:
        yield key, then, now
