"""A study from its file to its page, and a sweep from its words to its table."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import LONGEST
from tokenprune.evaluation.extent import check_context, longest_text, outline, questions_of
from tokenprune.loading.checkpoint import configuration
from tokenprune.loading.processor import Processor
from tokenprune.plugins import load_plugin
from tokenprune.results import copies
from tokenprune.storage import exclusive, replace
from tokenprune.study import cell_files, plot, table, tables
from tokenprune.study.config import StudyConfig, command, read
from tokenprune.study.grid import Grid, lay_grid
from tokenprune.study.page import page
from tokenprune.study.plan import Cell, lay_out
from tokenprune.study.results import Results, gather
from tokenprune.study.runner import build_task
from tokenprune.study.sweep import SweepConfig
from tokenprune.study.workers import Job, default_workers, work
from tokenprune.tasks import Task


@dataclass(frozen=True)
class Studied:
    """A study whose page is on disk."""

    page: Path
    results: Results


@dataclass(frozen=True)
class Swept:
    """A sweep whose results are on disk."""

    folder: Path
    config: SweepConfig
    grid: Grid
    results: Results
    made_with: Mapping[str, Any]  # of the full model


def study(words: Sequence[str]) -> Studied:
    """Runs the cells that `FILE KEY=VALUE ...` asks for and that are not finished yet, then writes
    the page.

    Raises ConfigError, StrategyError, LoadingError, UnsupportedModelError, OSError; nothing is ever
    half-written.
    """
    file, config = read(words)
    _needs("matplotlib", "a study draws plots")
    if config.plugin is not None:
        load_plugin(config.plugin)
    cells = lay_out(config)
    out = Path(config.out).expanduser() if config.out else Path("runs") / file.stem
    folder = Path(config.report).expanduser() if config.report else out
    with _measured(config, cells, out) as (results, made_with):
        versions = ", ".join(f"{name} {text}" for name, text in made_with["versions"].items())
        where = f"{made_with['dtype']} on {made_with['device']}, {versions}"
        config = dataclasses.replace(config, max_new_tokens=made_with["max_new_tokens"])
        return Studied(_write(folder, config, results, command(file, words), where), results)


def sweep(config: SweepConfig) -> Swept:
    """Runs the cells of a sweep that are not finished yet, then writes its table and plots.

    Raises as `study`.
    """
    _needs("matplotlib", "a sweep draws plots")
    _needs("pyarrow", "a sweep writes Parquet")
    if config.plugin is not None:
        load_plugin(config.plugin)
    grid, folder = lay_grid(config), Path(config.folder).expanduser()
    with _measured(grid.study, grid.cells, folder) as (results, made_with):
        lines = table.lines(config, grid, results)
        replace(folder / "results.csv", table.csv(lines))
        replace(folder / "results.parquet", table.parquet(lines))
        plot.over(results, "tokens", folder / "score_over_tokens.png")
        plot.over(results, "flops", folder / "score_over_flops.png")
    return Swept(folder, config, grid, results, made_with)


def _needs(package: str, why: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{why}: pip install {package}")


@contextmanager
def _measured(
    config: StudyConfig, cells: Sequence[Cell], out: Path
) -> Iterator[tuple[Results, Mapping[str, Any]]]:
    """Results of all cells, and the settings of the first; nobody else writes into `out` before the
    block ends.
    """
    task = build_task(config)
    place, samples = cell_files.place_of(config, cells, type(task)), task.fingerprint()
    config = _settled(config, task)
    jobs = [
        Job(
            cell,
            cell_files.settings(config, cell, place, samples),
            out / "cells" / f"{cell.slug}.jsonl",
        )
        for cell in cells
        if cell.pipeline is not None
    ]
    with exclusive(out):
        cell_files.check_code({job.file: job.made_with for job in jobs})
        waiting = [job for job in jobs if not cell_files.finished(job.file, job.made_with)]
        (out / "cells").mkdir(exist_ok=True)
        for draft in (out / "cells").glob(".*.partial"):  # of a process that was killed
            draft.unlink()
        if waiting and config.plugin is not None:
            copies.keep(out, reduce(or_, place.strategies.values(), place.code))
            # workers run it, whatever becomes of the file
            own = out / copies.PLUGINS / Path(config.plugin).name
            config = dataclasses.replace(config, plugin=str(own)) if own.is_file() else config
        work(config, waiting, config.workers or default_workers(place.device))
        records = {job.cell.slug: cell_files.read(job.file) for job in jobs}
        yield gather(cells, records, config.resamples, config.seed), jobs[0].made_with


def _settled(config: StudyConfig, task: Task) -> StudyConfig:
    """With the length of answers.

    ConfigError where the model's context does not hold the full model's prompts.
    """
    config = dataclasses.replace(
        config, max_new_tokens=config.max_new_tokens or task.max_new_tokens or LONGEST
    )
    assert config.frames is not None and config.max_new_tokens is not None
    adapter = outline(configuration(config.model))
    text = longest_text(Processor.load(config.model), questions_of(task, config.limit), adapter)
    check_context(config.model, adapter, config.frames, text, config.max_new_tokens)
    return config


def _write(folder: Path, config: StudyConfig, results: Results, line: str, where: str) -> Path:
    """The page, its plots and its table; each replaces an earlier one as a whole."""
    name = config.name or config.task.rpartition("/")[2].partition(".")[0].replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / f"{name}.md", page(config, results, line, where, name))
    replace(folder / f"{name}.csv", tables.tidy(results))
    if results.budgets:
        plot.retention(results, folder / f"{name}.png")
        plot.families(results, min(results.budgets), folder / f"{name}_families.png")
    return folder / f"{name}.md"
