"""Speed jobs: runs of `tokenprune bench`, on random weights of the real size or on a checkpoint."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from tokenprune.bench.config import BenchConfig
from tokenprune.bench.run import JSON, bench
from tokenprune.errors import ConfigError
from tokenprune.reproduce.cell import Found
from tokenprune.reproduce.config import ReproduceConfig
from tokenprune.reproduce.jobs import FULL, Job
from tokenprune.reproduce.schema import Column

# what a bench of the full model alone measures beside it: only the full model's figures are read
_ANY = "random"


def do(job: Job, folder: Path, config: ReproduceConfig, command: str) -> dict[str, Any]:
    """What `bench.json` holds, made now unless it is there. Raises TokenpruneError, OSError."""
    file = folder / JSON
    if not file.is_file():
        words = dict(job.words)
        if words["strategy"] == [FULL]:
            words["strategy"] = [_ANY]
        folder.parent.mkdir(parents=True, exist_ok=True)
        bench(BenchConfig(**words, device=config.device, out=str(folder)), command)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{file} is damaged: remove {folder}") from None


def read(job: Job, done: dict[str, Any], column: Column, folder: Path) -> Found:
    """A measured column, and the full model's of the same bench beside it: `effect` is the ratio to
    it.

    ConfigError for a measure that `tokenprune bench` does not have.
    """
    (row,) = done["rows"]
    full = job.words["strategy"] == [FULL]
    figures = row["vanilla" if full else "strategy"]
    if column.measure not in figures:
        known = ", ".join(name for name, value in figures.items() if isinstance(value, int | float))
        raise ConfigError(f"a bench has no {column.measure}: write one of {known}")
    value, other = (column.scale * one[column.measure] for one in (figures, row["vanilla"]))
    low, high = figures["spread"].get(column.measure, (None, None))
    place = done["environment"]
    return Found(
        value=value,
        low=None if low is None else column.scale * low,
        high=None if high is None else column.scale * high,
        effect=None if full else value / other,
        full=full,
        run=job.digest,
        settings={**job.told, "weights": place["weights"]},
        machine=str(place.get("device_name") or place["device"]),
        date=datetime.date.today().isoformat(),
        revision=place.get("git_revision"),
        folder=folder.name,
    )
