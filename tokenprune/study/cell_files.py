"""Cells on disk: each is the folder of a finished run with one system, whole or not there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.loading.variant import CHOICES
from tokenprune.registry import resolved_fields
from tokenprune.results import begun, record
from tokenprune.results.answer import RANDOM, STRATEGY, VANILLA, Answer
from tokenprune.results.files import CONFIG
from tokenprune.results.read import read_run
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting
from tokenprune.results.system import System
from tokenprune.storage import whole_folder
from tokenprune.strategy import Pipeline
from tokenprune.study.config import SELF, StudyConfig
from tokenprune.study.place import Place
from tokenprune.study.plan import Cell

# keys of `tokenprune run` that are the same for all cells
_SHARED = (
    "model",
    "task",
    "include_path",
    "judge",
    "frames",
    "sampling",
    "short",
    "samples",
    "limit",
    "seed",
    "max_new_tokens",
    "batch_size",
    *CHOICES,
    "device",
    "plugin",
)


@dataclass(frozen=True)
class Settings:
    """What a cell is asked and made with: the parts of its `config.yaml`, as YAML reads them."""

    run: Mapping[str, Any]  # keys of `tokenprune run` that make the same pipeline
    made_with: Mapping[str, Any]  # see `begun.made_with`
    environment: Mapping[str, Any]  # see `record.environment`


@dataclass(frozen=True)
class Made:
    """What a cell amounts to."""

    answers: Sequence[Answer]
    prompts: Mapping[str, str]  # the chat turns, by sample id
    figures: Mapping[str, Any]  # a benchmark's own


def settings_of(
    config: StudyConfig, cell: Cell, place: Place, samples: Mapping[str, Any]
) -> Settings:
    """`samples` is the task's fingerprint."""
    assert cell.pipeline is not None
    assistant = None if cell.guided_by == SELF else cell.guided_by
    options = {
        f"{strategy}.{name}": value
        for strategy, fields in resolved_fields(cell.pipeline).items()
        for name, value in fields.items()
    }
    run = {
        "strategy": str(cell.pipeline),
        "options": options,
        "assistant": assistant,
        **{name: getattr(config, name) for name in _SHARED},
        "dtype": place.dtype,
    }
    code = place.code_of(cell)
    models = [config.model] if assistant is None else [config.model, assistant]
    weights = {model: place.weights[model] for model in models}
    made_with = begun.made_with(code, weights, samples, place.dtype, None)
    environment = {**place.environment, "packages": code.versions()}
    return Settings(*(json.loads(json.dumps(part)) for part in (run, made_with, environment)))


def role_of(pipeline: Pipeline) -> str:
    """As in a run of that pipeline alone."""
    spec = str(pipeline)
    return {"none": VANILLA, "random": RANDOM}.get(spec, STRATEGY)


def write(folder: Path, cell: Cell, settings: Settings, made: Made) -> None:
    """The whole folder or none of it."""
    assert cell.pipeline is not None
    role = role_of(cell.pipeline)
    system = System(role, cell.label, cell.pipeline, list(made.answers))
    run = settings.run
    asked = {one.name: run[one.name] for one in dataclasses.fields(Setting) if one.name in run}
    figures = {role: made.figures} if made.figures else {}
    found = summarise([system], Setting(spec=run["strategy"], **asked), figures)
    code, environment = settings.made_with["code"], settings.environment
    summary = dataclasses.replace(found, code=code, environment=environment)
    with whole_folder(str(folder)) as (draft, _):
        record.write(draft, summary, [system], made.prompts, run, settings.made_with)


def read(folder: Path) -> list[Answer]:
    """What a finished cell answered, in the task's order."""
    return read_run(folder).answers()


def settings_in(folder: Path) -> Settings | None:
    """What a finished cell was made with; None where there is none.

    ConfigError where something else is there.
    """
    if not folder.exists():
        return None
    found = begun.whole(folder) or {}
    try:
        settings = Settings(found["run"], found["made_with"], found["environment"])
        settings.made_with["code"]
        return settings
    except (KeyError, TypeError):
        raise ConfigError(
            f"{folder} is not a cell of a study ({CONFIG} does not say what it was made with): "
            "remove it, or write another out="
        ) from None


def remove_drafts(cells: Path, process: int | None = None) -> None:
    """Removes what processes that were killed were writing; `process`: only of that one."""
    for draft in cells.glob(f".*.{'*' if process is None else process}.partial"):
        shutil.rmtree(draft, ignore_errors=True)
