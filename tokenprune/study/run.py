"""A study from its file to its page, and a sweep from its words to its table."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.evaluation import logs
from tokenprune.evaluation.config import LONGEST
from tokenprune.evaluation.extent import check_context, longest_text, questions_of, uncompressed
from tokenprune.loading.checkpoint import configuration, settled
from tokenprune.loading.processor import Processor
from tokenprune.plugins import load_plugins
from tokenprune.results import copies
from tokenprune.results.files import CELLS, PLUGINS
from tokenprune.storage import replace
from tokenprune.strategy import Extent
from tokenprune.study import cell_files, plot, sharing, table
from tokenprune.study.config import CellConfig, StudyConfig, folder_of
from tokenprune.study.grid import plan_grid
from tokenprune.study.launcher import SHARED
from tokenprune.study.page import page
from tokenprune.study.place import Place, place_of
from tokenprune.study.plan import Cell, plan_cells
from tokenprune.study.results import Results, gather
from tokenprune.study.runner import build_task
from tokenprune.study.scores import Answers
from tokenprune.study.stale import unfinished
from tokenprune.study.sweep import SweepConfig
from tokenprune.study.workers import Job, default_workers, work, work_together
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
    cells: Sequence[Cell]  # the full model first
    results: Results
    lines: list[table.Line]
    environment: Mapping[str, Any]


def study(file: Path, config: StudyConfig, command: str) -> Studied:
    """Runs the cells of a study that are not finished yet, then writes its page.

    Raises TokenpruneError, OSError; nothing is ever half-written.
    """
    _needs("matplotlib", "a study draws plots")
    logs.check_installed(config.trainer)
    load_plugins(config.plugin)
    cells = plan_cells(config, extent_of(config))
    out = folder_of(file, config)
    folder = Path(config.report).expanduser() if config.report else out
    with _measured(config, cells, out, command) as (settled, place, results):
        page = _write(folder, settled, cells, results, command, place.environment)
    return Studied(page, results)


def sweep(config: SweepConfig, command: str = "tokenprune sweep") -> Swept:
    """Runs the cells of a sweep that are not finished yet, then writes its table and plots.

    Raises as `study`.
    """
    _needs("matplotlib", "a sweep draws plots")
    _needs("pyarrow", "a sweep writes Parquet")
    logs.check_installed(config.trainer)
    load_plugins(config.plugin)
    study, cells = plan_grid(config, extent_of(config))
    folder = Path(config.folder).expanduser()
    with _measured(study, cells, folder, command) as (_, place, results):
        lines = table.lines_of(results, cells, config)
        replace(folder / "results.csv", table.as_csv(lines, results))
        replace(folder / "results.parquet", table.as_parquet(lines, results))
        plot.over(results, "tokens", folder / "score_over_tokens.png")
        plot.over(results, "flops", folder / "score_over_flops.png")
    return Swept(folder, config, cells, results, lines, place.environment)


def _needs(package: str, why: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{why}: pip install {package}")


def extent_of(config: CellConfig) -> Extent:
    """What an uncompressed prompt is to the model."""
    assert config.frames is not None  # settled
    processor = Processor.load(config.model, config)
    settings = configuration(config.model, config)
    seen = uncompressed(settings, processor, lambda: build_task(config))
    return seen.extent(config.frames)


@contextmanager
def _measured(
    config: StudyConfig, cells: Sequence[Cell], out: Path, command: str
) -> Iterator[tuple[StudyConfig, Place, Results]]:
    """Results of all cells, how and where they were made; see `answered`."""
    with answered(config, cells, out, command) as (settled, place, answers):
        yield settled, place, gather(cells, answers, config.resamples, config.seed)


@contextmanager
def answered(
    config: StudyConfig, cells: Sequence[Cell], out: Path, command: str
) -> Iterator[tuple[StudyConfig, Place, Answers]]:
    """What all cells that have a pipeline answered, how and where; unfinished ones are run first.

    Nobody else writes into `out` before the block ends. Raises TokenpruneError, OSError.
    """
    task = build_task(config)
    place = place_of(config, cells, type(task), command)
    config = _settled(config, task)
    jobs = _jobs(config, cells, place, task.fingerprint(), out / CELLS)
    if config.launcher == SHARED:
        shared = [job._replace(lock=out / sharing.LOCKS / job.cell.slug) for job in jobs]
        with sharing.joined(out, lambda: _prepared(config, _missing(shared, out), place, out)):
            with_copies = _with_copies(config, out)
            work_together(with_copies, shared, _workers(config, place))
            with sharing.turn(out):
                yield config, place, _read(jobs)
        return
    with sharing.alone(out):
        waiting = _missing(jobs, out)
        cell_files.remove_drafts(out / CELLS)
        _prepared(config, waiting, place, out)
        work(_with_copies(config, out), waiting, _workers(config, place))
        yield config, place, _read(jobs)


def _missing(jobs: Sequence[Job], out: Path) -> list[Job]:
    """Jobs to be done. ConfigError where a finished cell is not what its job would make."""
    (out / CELLS).mkdir(exist_ok=True)
    missing = unfinished({job.folder: job.settings for job in jobs})
    return [job for job in jobs if job.folder in missing]


def _read(jobs: Sequence[Job]) -> Answers:
    return {job.cell.slug: cell_files.read(job.folder) for job in jobs}


def _workers(config: StudyConfig, place: Place) -> int:
    return config.workers or default_workers(place.device)


def _settled(config: StudyConfig, task: Task) -> StudyConfig:
    """With the length of answers, and what the checkpoint says about itself.

    ConfigError where the model's context does not hold the full model's prompts.
    """
    longest = config.max_new_tokens or task.max_new_tokens or LONGEST
    assert config.frames is not None  # settled
    settings = configuration(config.model, config)
    processor = Processor.load(config.model, config)
    seen = uncompressed(settings, processor, lambda: task)
    text = longest_text(processor, questions_of(task, config.limit), seen, config.frames)
    check_context(config.model, seen, config.frames, text, longest)
    return dataclasses.replace(settled(config, settings, processor), max_new_tokens=longest)


def _jobs(
    config: StudyConfig,
    cells: Sequence[Cell],
    place: Place,
    samples: Mapping[str, Any],
    folder: Path,
) -> list[Job]:
    """What each cell that can be reached is made with, and where it goes."""
    return [
        Job(cell, cell_files.settings_of(config, cell, place, samples), folder / cell.slug)
        for cell in cells
        if cell.pipeline is not None
    ]


def _prepared(config: StudyConfig, waiting: Sequence[Job], place: Place, out: Path) -> None:
    """Copies the user's own code: whatever becomes of that, the copy is what runs."""
    if waiting and config.plugin:
        copies.keep(out, place.all_code)


def _with_copies(config: StudyConfig, out: Path) -> StudyConfig:
    """With the copies of plug-ins that there are."""
    kept = [out / PLUGINS / Path(name).name for name in config.plugin]
    pairs = zip(kept, config.plugin, strict=True)
    plugins = [str(copy) if copy.is_file() else name for copy, name in pairs]
    return dataclasses.replace(config, plugin=plugins)


def _write(
    folder: Path,
    config: StudyConfig,
    cells: Sequence[Cell],
    results: Results,
    line: str,
    place: Mapping[str, Any],
) -> Path:
    """The page, its plots and its table; each replaces an earlier one as a whole."""
    name = config.name or config.task.rpartition("/")[2].partition(".")[0].replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / f"{name}.md", page(config, results, line, place, name))
    replace(folder / f"{name}.csv", table.as_csv(table.lines_of(results, cells, config), results))
    if (pictured := results.pictured) is not None:
        plot.retention(results, folder / f"{name}.png")
        plot.categories(results, pictured, folder / f"{name}_categories.png")
    return folder / f"{name}.md"
