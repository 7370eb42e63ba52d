"""Runs cells in several processes; each is stored as soon as it is done."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tokenprune.errors import ConfigError
from tokenprune.evaluation import logs
from tokenprune.guards import blame
from tokenprune.loading.device import cores, threads
from tokenprune.plugins import load_plugins
from tokenprune.study import cell_files, sharing
from tokenprune.study.cell_files import Settings
from tokenprune.study.config import StudyConfig
from tokenprune.study.plan import Cell
from tokenprune.study.runner import Runner
from tokenprune.study.sharing import Interrupted

_AGAIN = 1.0  # seconds until cells of other processes are looked at again
_RUNNER: list[Runner] = []  # of a worker process, which has exactly one


class Job(NamedTuple):
    """A cell to run, the settings it is run under and where it goes."""

    cell: Cell
    settings: Settings
    folder: Path
    lock: Path | None = None  # where several processes share the cells

    def run(self, runner: Runner) -> bool:
        """Runs and stores it, unless another process is at it, or was."""
        with sharing.held(self.lock) as mine:
            if not mine or (self.lock is not None and self.folder.exists()):
                return False
            self._run(runner)
        return True

    def _run(self, runner: Runner) -> None:
        answers = runner.run(self.cell)
        made = cell_files.Made(answers, runner.prompts(answers), runner.figures(answers))
        environment = {**self.settings.environment, **runner.settled()}
        settings = dataclasses.replace(self.settings, environment=environment)
        cell_files.write(self.folder, self.cell, settings, made)


def work(config: StudyConfig, jobs: Sequence[Job], workers: int) -> None:
    """Runs `jobs`. Whatever happens, what is on disk is whole, and a second call does the rest."""
    if not jobs:
        return
    done, told = 0, None
    try:
        finished = _alone(config, jobs) if workers == 1 else _together(config, jobs, workers)
        # however this ends, its processes end with it
        with _progress(len(jobs)) as step, closing(finished):
            for job in finished:
                done += 1
                step(done, job.cell.label)
                told = _logged(config, job)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted after {done} of {len(jobs)} cells, which stay in "
            f"{jobs[0].folder.parent}: "
            "the same command does the rest"
        ) from None

    if told is not None:
        print(told, file=sys.stderr)


def work_together(config: StudyConfig, jobs: Sequence[Job], workers: int) -> None:
    """As `work`, where other processes are at the same jobs: until all are done by somebody."""
    waiting, told = [job for job in jobs if not job.folder.exists()], False
    while waiting:
        work(config, waiting, workers)
        while waiting := [job for job in waiting if not job.folder.exists()]:
            if not all(sharing.busy(job.lock) for job in waiting if job.lock is not None):
                break  # whoever was at it has ended without it
            if not told:
                count = f"{len(waiting)} cells are left, which other processes are at"
                print(f"{count}: waiting for them", file=sys.stderr, flush=True)
                told = True
            time.sleep(_AGAIN)


def _logged(config: StudyConfig, job: Job) -> str | None:
    """What a logger says about a finished cell; one that fails does not keep others from being
    run.
    """
    if (name := config.trainer.get(logs.KEY)) is None:
        return None
    try:
        return logs.log(name, job.folder, job.folder.parent.parent / logs.LOGS)
    except ConfigError as error:
        return str(error)


def default_workers(device: torch.device) -> int:
    """One per core that this process may use; an accelerator is not shared."""
    return cores() if device.type == "cpu" else 1


def _alone(config: StudyConfig, jobs: Sequence[Job]) -> Generator[Job, None, None]:
    """In this process, as the workers do it."""
    with threads(1):
        runner = Runner(config)
        for job in jobs:
            if job.run(runner):
                yield job


def _together(config: StudyConfig, jobs: Sequence[Job], workers: int) -> Generator[Job, None, None]:
    """In `workers` processes, whoever is free takes the next cell."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(config,),
    )
    try:
        running = {pool.submit(_do, job): job for job in jobs}
        for finished in as_completed(running):
            if finished.result():
                yield running[finished]
        pool.shutdown()
    except BrokenProcessPool:
        raise ConfigError(
            "a worker process ended before its cell did (out of memory?): the same command does "
            "the rest, with workers=1 it takes less memory"
        ) from None
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()  # Lightning would sit out a polite request
            child.join()
            cell_files.remove_drafts(jobs[0].folder.parent, child.pid)
        pool.shutdown(cancel_futures=True)


def _begin(config: StudyConfig) -> None:
    # Ctrl-C is the parent's to handle, which ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    load_plugins(config.plugin)  # before a cell that names their strategies arrives
    _RUNNER[:] = [Runner(config)]


def _end_with_parent() -> None:
    """Ends this worker when its parent was killed: it would wait for work, and keep its memory."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _do(job: Job) -> bool:
    with blame.travelling():
        return job.run(_RUNNER[0])


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Yields what is called with the number of finished cells and the last one's label.

    Shows that on stderr.
    """
    began, console = time.monotonic(), Console(file=sys.stderr)

    def pace(done: int) -> str:
        return f"{(time.monotonic() - began) / done:.1f} s a cell"

    if not console.is_terminal:

        def line(done: int, label: str) -> None:
            left = (time.monotonic() - began) / done * (total - done) / 60
            print(
                f"{done}/{total} cells, {pace(done)}, {left:.0f} min left: {label}",
                file=console.file,
                flush=True,
            )

        yield line
        return
    columns = (
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("cells, {task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done, label: bar.update(
            task, completed=done, description=f"{pace(done)}, last {label}"
        )
