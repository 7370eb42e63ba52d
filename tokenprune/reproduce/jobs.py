"""What has to be run for cells: one job for all cells, of whatever table, that one run fills."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenprune.reproduce.cell import MEASURED, NOT_PRINTED, Cell
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.files import path
from tokenprune.reproduce.models import models
from tokenprune.reproduce.protocol import OPEN, read_protocol
from tokenprune.reproduce.schema import Column, Row, Table

SCORE, SPEED = "score", "speed"
FULL = "none"  # the strategy of the full model
_NEW_TOKENS = {"decode_ms_per_token": 100}  # of a bench; else 2
_FREE = ("plugin", "include_path")  # their content counts, wherever they lie


@dataclass(frozen=True)
class Place:
    """A cell that a job fills."""

    id_: str
    row: str
    column: str


@dataclass(frozen=True)
class Job:
    """One run of `tokenprune run` or `tokenprune bench`.

    Args:
        kind: SCORE or SPEED
        words: keys of that command; without `device` and `out`, which may differ between two calls
        protocol: the digest of how the paper asked this task and read its answers
        task: of a score, its name in the protocol
        documents: the repository of its dataset on the hub
        videos: where lmms-eval has its videos, below HF_HOME
        judged: whether a paid model scores its answers
    """

    kind: str
    words: Mapping[str, Any]
    protocol: str = ""
    task: str = ""
    documents: str = ""
    videos: str = ""
    judged: bool = False

    @property
    def digest(self) -> str:
        """The same for the same job, on whatever machine."""
        code = [
            hashlib.sha256(Path(file).read_bytes()).hexdigest()
            for file in self.words.get("plugin", [])
        ]
        text = json.dumps([self.kind, self.told, self.protocol, code], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def full(self) -> Job:
        """The job of the full model on the same samples, whose answers this one takes."""
        bare = {name: value for name, value in self.words.items() if name != "assistant"}
        return replace(self, words={**bare, "strategy": FULL, "options": {}, "plugin": []})

    @property
    def told(self) -> dict[str, Any]:
        """The words without places of this machine, for files that others read."""
        plugins = [Path(file).name for file in self.words.get("plugin", [])]
        kept = {name: value for name, value in self.words.items() if name not in _FREE}
        return {**kept, **({"plugin": plugins} if plugins else {})}

    @property
    def spec(self) -> str:
        return self.words["strategy"] if self.kind == SCORE else self.words["strategy"][0]

    @property
    def folder(self) -> str:
        """The name of its folder: readable, and its own."""
        names = [str(self.words["model"]).rpartition("/")[2], self.spec, self.task]
        plain = re.sub(r"[^\w.+-]+", "-", "-".join(filter(None, names)))
        return f"{plain[:80]}-{self.digest}"


@dataclass
class Planned:
    """A job, and the cells that it fills."""

    job: Job
    places: list[Place] = field(default_factory=list)


def plan(
    wanted: Iterable[tuple[str, Table, Sequence[Cell]]], config: ReproduceConfig
) -> list[Planned]:
    """The jobs of all cells that were not run, or on fewer samples than now, or other weights.

    The full model's come first. Raises ConfigError for a protocol that is not there.
    """
    found: dict[str, Planned] = {}
    for id_, table, made in wanted:
        for cell in made:
            if not _measured(cell):
                continue
            job = job_of(id_, table, cell.row, cell.column, config)
            if job is not None and _tells_more(job, cell, config):
                planned = found.setdefault(job.digest, Planned(job))
                planned.places.append(Place(id_, cell.row.label, cell.name))
    return sorted(found.values(), key=lambda one: (one.job.kind, one.job.spec != FULL))


def _measured(cell: Cell) -> bool:
    """Whether a run can say something about a printed figure."""
    runs = cell.row.run is not None and cell.column.from_ in MEASURED
    return runs and cell.status != NOT_PRINTED


def _tells_more(job: Job, cell: Cell, config: ReproduceConfig) -> bool:
    """Than the figure that a cell has: of more samples, from another judge, or of weights that the
    user names now.
    """
    if cell.found is None:
        return True
    if cell.found.run == job.digest:
        return False
    settings = cell.found.settings
    if config.model and settings.get("model") != job.words["model"]:
        return True
    before = settings.get("limit")
    wider = before is not None and (config.limit is None or config.limit > before)
    return wider or (job.judged and config.judge not in (None, cell.found.judge))


def job_of(
    id_: str,
    table: Table,
    row: Row,
    column: Column,
    config: ReproduceConfig,
) -> Job | None:
    """What fills a cell; None where its column names no task or measure."""
    assert row.run is not None
    if column.from_ == "speed":
        return _speed(id_, table, row, column, config) if column.measure else None
    if not column.task:
        return None
    protocol = read_protocol(table.protocol) if table.protocol else None
    if protocol is not None and protocol.task(column.task).kind == OPEN:
        return None
    words = {
        **_shared(id_, table, row, config),
        "strategy": row.run.strategy,
        "limit": config.limit,
        "batch_size": config.batch_size,
        "seed": config.seed,
        **({"task": column.task} if protocol is None else protocol.run_words(column.task)),
    }
    if config.dtype is not None:
        words["dtype"] = config.dtype
    if column.from_ == "judged":
        words["judge"] = config.judge
    known = {name: value for name, value in words.items() if value is not None}
    judged = column.from_ == "judged"
    if protocol is None:
        return Job(SCORE, known, task=column.task, judged=judged)
    asked = protocol.task(column.task)
    places = {"documents": asked.documents, "videos": asked.videos}
    return Job(SCORE, known, protocol.digest_of(column.task), column.task, judged=judged, **places)


def _shared(id_: str, table: Table, row: Row, config: ReproduceConfig) -> dict[str, Any]:
    """Keys that `run` and `bench` have in common."""
    run = row.run
    assert run is not None
    name = str(run.model or table.setting(row, "model"))
    return {
        "model": weights(table, name, config),
        "assistant": None if run.assistant is None else weights(table, run.assistant, config),
        "frames": run.frames or table.setting(row, "frames"),
        "options": dict(run.options),
        "plugin": [] if run.plugin is None else [str(path(id_).with_name(run.plugin))],
    }


def weights(table: Table, name: str, config: ReproduceConfig) -> str:
    """The folder or hub id of a model: the user's, else the table's."""
    return str(config.model.get(name, table.models.get(name, name)))


def _speed(id_: str, table: Table, row: Row, column: Column, config: ReproduceConfig) -> Job:
    """Random weights of the real size where the user names no others."""
    words = _shared(id_, table, row, config)
    assert row.run is not None
    for role, name in (("model", table.setting(row, "model")), ("assistant", row.run.assistant)):
        known = models().get(table.models.get(str(name), ""))
        if name is not None and str(name) not in config.model and known and known.shape:
            words[role] = f"shape:{known.shape}"
    strategy = row.run.strategy if not row.matches(table.baseline) else FULL
    words |= {
        "strategy": [strategy],
        "dtype": config.dtype or "bfloat16",
        "seed": config.seed,
        "new_tokens": _NEW_TOKENS.get(column.measure, 2),
    }
    return Job(SPEED, {name: value for name, value in words.items() if value is not None})
