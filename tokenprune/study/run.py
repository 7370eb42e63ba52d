"""A study from its file to its page."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenprune.config import ConfigError
from tokenprune.study import plot, store, tables
from tokenprune.study.bench import build_task
from tokenprune.study.config import StudyConfig, command, read
from tokenprune.study.page import page
from tokenprune.study.plan import lay_out
from tokenprune.study.results import Results, gather
from tokenprune.study.work import Job, default_workers, work


@dataclass(frozen=True)
class Studied:
    """A study whose page is on disk."""

    page: Path
    results: Results


def study(words: Sequence[str]) -> Studied:
    """Runs the cells that `FILE KEY=VALUE ...` asks for and that are not finished yet, then writes the page.

    Raises ConfigError, StrategyError, LoadingError, UnsupportedModelError, OSError; nothing is ever half-written.
    """
    file, config = read(words)
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("a study draws plots: pip install matplotlib")
    cells, place = lay_out(config), store.place_of(config)
    build_task(config)
    out = Path(config.out).expanduser() if config.out else Path("runs") / file.stem
    jobs = [
        Job(cell, store.settings(config, cell, place), out / "cells" / f"{cell.slug}.jsonl")
        for cell in cells
        if cell.pipeline is not None
    ]
    waiting = [job for job in jobs if not store.finished(job.file, job.made_with)]
    (out / "cells").mkdir(parents=True, exist_ok=True)
    work(config, waiting, config.workers or default_workers(place.device))
    records = {job.cell.slug: store.read(job.file) for job in jobs}
    results = gather(cells, records, config.resamples, config.seed)
    versions = jobs[0].made_with["versions"]
    where = f"{place.dtype} on {place.device.type}, " + ", ".join(f"{name} {text}" for name, text in versions.items())
    folder = Path(config.report).expanduser() if config.report else out
    return Studied(_write(folder, config, results, command(file, words), where), results)


def _write(folder: Path, config: StudyConfig, results: Results, line: str, where: str) -> Path:
    """The page, its plots and its table; each replaces an earlier one as a whole."""
    name = config.name or config.task.rpartition("/")[2].partition(".")[0].replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    drafts = {
        folder / f"{name}.md": page(config, results, line, where, name),
        folder / f"{name}.csv": tables.tidy(results),
    }
    for file, text in drafts.items():
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    if results.budgets:
        plot.retention(results, folder / f"{name}.png")
        plot.families(results, min(results.budgets), folder / f"{name}_families.png")
    return folder / f"{name}.md"
