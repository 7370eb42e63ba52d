"""Finished cells on disk: one JSON-lines file each, whose first line says under which settings it
was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from operator import or_
from pathlib import Path
from typing import Any

import torch

import tokenprune
from tokenprune.errors import ConfigError
from tokenprune.loading.checkpoint import configuration
from tokenprune.loading.device import pick_device, pick_dtype
from tokenprune.registry import resolved_fields
from tokenprune.results.copies import copy_of
from tokenprune.results.differences import unequal
from tokenprune.results.provenance import Code, code_of, code_of_package, differing
from tokenprune.results.reuse import content_key
from tokenprune.storage import replace
from tokenprune.study.config import SELF, StudyConfig
from tokenprune.study.plan import Cell

_COMPARED = (
    "task",
    "model",
    "frames",
    "sampling",
    "samples",
    "limit",
    "seed",
    "max_new_tokens",
    "batch_size",
)


@dataclass(frozen=True)
class Place:
    """Where the study's models run, and what they are at the moment."""

    device: torch.device
    dtype: str
    weights: Mapping[str, str]  # fingerprints of what a model's folder holds, by its name
    code: Code  # of the loop and the task
    strategies: Mapping[str, Code]

    def code_of(self, cell: Cell) -> Code:
        """All that a cell's answers go through."""
        named = () if cell.pipeline is None else cell.pipeline.strategies
        return reduce(or_, (self.strategies[strategy.name] for strategy in named), self.code)


def place_of(config: StudyConfig, cells: Sequence[Cell], *tasks: type) -> Place:
    """`tasks` are the classes that make the samples. Raises LoadingError, UnsupportedModelError."""
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device, configuration(config.model))
    names = {config.model, *(cell.guided_by for cell in cells)} - {SELF, None}
    weights = {str(name): content_key(str(name))[:16] for name in names}
    named = {s.name: type(s) for cell in cells if cell.pipeline for s in cell.pipeline.strategies}
    strategies = {name: code_of(kind) for name, kind in named.items()}
    code = code_of_package() | code_of(*tasks)
    return Place(device, str(dtype).removeprefix("torch."), weights, code, strategies)


def settings(
    config: StudyConfig, cell: Cell, place: Place, task: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything a cell's answers depend on, `task` being that task's fingerprint, as JSON reads it
    back.
    """
    names = {"weights": config.model, "guide_weights": cell.guided_by}
    code = place.code_of(cell)
    found = {
        **{key: getattr(config, key) for key in _COMPARED},
        "device": place.device.type,
        "dtype": place.dtype,
        "versions": {
            "tokenprune": tokenprune.__version__,
            **{n: version(n) for n in ("torch", "transformers")},
        },
        **{key: place.weights[name] for key, name in names.items() if name in place.weights},
        "pipeline": resolved_fields(cell.pipeline) if cell.pipeline else None,
        "guide": cell.guided_by,
        "code": code.digests(),
        "packages": code.versions(),
        "task_fingerprint": dict(task),
    }
    return json.loads(json.dumps(found))


def write(file: Path, made_with: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """The whole file or none of it."""
    lines = [json.dumps(line, allow_nan=False) for line in ({"made_with": made_with}, *records)]
    replace(file, "\n".join(lines) + "\n")


def check_code(wanted: Mapping[Path, Mapping[str, Any]]) -> None:
    """ConfigError names all of these cells' files that were made with other code than their
    settings say.
    """
    stale: dict[Path, list[str]] = {}
    for file, settings in wanted.items():
        made_with = _made_with(file) or settings
        if "code" not in made_with:
            raise ConfigError(
                f"{file} does not say which code made it: remove it, or write another out="
            )
        if names := differing(made_with["code"], settings["code"]):
            stale[file] = names
    if not stale:
        return
    first = next(iter(stale))
    # a plug-in's file and not one of ours, if both have changed
    name = min(stale[first], key=lambda name: name.startswith("tokenprune/"))
    others = f" and {len(stale[first]) - 1} other files" if len(stale[first]) > 1 else ""
    made = (_made_with(first) or {}).get("code", {}).get(name, "")
    copy = copy_of(first.parent.parent, name, made)
    kept = f" (their own copy is {copy})" if copy is not None else ""
    files = " ".join(str(file) for file in stale)
    were, it = ("was", "it") if len(stale) == 1 else ("were", "them")
    raise ConfigError(
        f"{files} {were} made with another {name}{others}{kept}: remove {it} to run {it} again, or "
        "write another out="
    )


def finished(file: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the cell is there.

    ConfigError where it was made with other settings than `wanted`, or other code.
    """
    made_with = _made_with(file)
    if made_with is None:
        return False
    check_code({file: wanted})
    for key, then, now in unequal(made_with, wanted):
        raise ConfigError(
            f"{file} was made with {key}={then}, which now is {now}: write another out=, or remove "
            f"{file.parent}"
        )
    return True


def read(file: Path) -> list[dict[str, Any]]:
    """The records of a finished cell, in the task's order."""
    with file.open(encoding="utf-8") as lines:
        next(lines)
        return [json.loads(line) for line in lines]


def _made_with(file: Path) -> Mapping[str, Any] | None:
    """The settings of a finished cell; None where there is none. ConfigError for another file."""
    try:
        with file.open(encoding="utf-8") as lines:
            made_with: Mapping[str, Any] = json.loads(next(lines))["made_with"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, StopIteration):
        raise ConfigError(
            f"{file} is not a cell of a study: remove it, or write another out="
        ) from None
    return made_with
