"""`launcher=submitit`: jobs of a Slurm cluster that run the same command, and share its cells.

A job settles for itself on which device its models go; where the command was typed there may be
none. Where there is no Slurm the jobs are processes of this machine.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.results.files import CELLS, CONFIG
from tokenprune.study.launcher import SHARED, Launched
from tokenprune.study.sharing import Interrupted

JOBS = "jobs"  # what submitit writes, in the folder of a sweep or study
_MINUTES, _LOCAL_MINUTES = 60, 60 * 24 * 365  # a job is started again when its time is over
_ASKED = 1.0  # seconds from one look at the jobs to the next


@dataclass(frozen=True)
class Share:
    """What a job runs: the command of these words; submitit writes it down."""

    words: tuple[str, ...]

    def __call__(self) -> str:
        """What the command printed. RuntimeError where it failed; what it said is in the log."""
        line = [sys.executable, "-m", "tokenprune", *self.words]
        done = subprocess.run(
            line, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=_deaf
        )
        print(done.stdout)
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}")
        return done.stdout

    def checkpoint(self) -> Any:
        """How a job goes on whose time was over, or that had to make way: with the same command."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _deaf() -> None:
    """Slurm's word that time is nearly over is for submitit alone."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def submit(words: Sequence[str], config: Launched, out: Path, say: Callable[[str], None]) -> str:
    """Runs the command of `words`, `out=` among them or not, as jobs; returns what it printed.

    ConfigError where submitit is missing, takes no such option, or all jobs failed.
    """
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("launcher=submitit needs it: pip install 'tokenprune-video[submitit]'")
    import submitit

    executor = submitit.AutoExecutor(out / JOBS)
    local, number = executor.cluster != "slurm", config.jobs or 1
    given = {f"slurm_{name}": value for name, value in config.slurm.items()}
    try:
        executor.update_parameters(
            name="tokenprune", timeout_min=_LOCAL_MINUTES if local else _MINUTES, **given
        )
    except (NameError, AssertionError, ValueError, TypeError) as error:
        raise ConfigError(f"submitit does not take {_told(config)}: {_first(error)}") from None
    share = Share(_words(words, out, local))
    with executor.batch():
        jobs = [executor.submit(share) for _ in range(number)]
    where = "on this machine, which has no Slurm" if local else "of Slurm"
    say(f"jobs {where}: {number}, with their logs in {out / JOBS}")
    _wait(jobs, out, say)
    failed = [job for job in jobs if job.exception() is not None]
    if 0 < len(failed) < number:
        say(
            f"{len(failed)} jobs failed, and others did their cells (log: {failed[0].paths.stderr})"
        )
    return _printed(jobs, out)


def _words(words: Sequence[str], out: Path, local: bool) -> tuple[str, ...]:
    """Those of a job: it is one of several that share `out`, on this machine a process each."""
    kept = [word for word in words if not word.startswith(("launcher=", "out="))]
    if local and not any(word.startswith("workers=") for word in words):
        kept.append("workers=1")
    return (*kept, f"launcher={SHARED}", f"out={out}")


def _wait(jobs: Sequence[Any], out: Path, say: Callable[[str], None]) -> None:
    """Until all have ended. What was interrupted is cancelled, and finished cells stay."""
    told = -1
    try:
        while not all(job.done() for job in jobs):
            finished = len(list((out / CELLS).glob(f"*/{CONFIG}")))
            if finished != told:
                say(f"{finished} cells are finished")
                told = finished
            time.sleep(_ASKED)
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel()
        raise Interrupted(
            f"interrupted, and its jobs are cancelled: finished cells stay in {out / CELLS}, the "
            "same command does the rest"
        ) from None


def _printed(jobs: Sequence[Any], out: Path) -> str:
    """By the first job that got through: its results are those of all cells."""
    good = [job for job in jobs if job.exception() is None]
    if good:
        return good[0].result()
    first = jobs[0]
    said = (first.stderr() or "").splitlines()
    mark = "tokenprune: error: "
    reasons = [line.removeprefix(mark) for line in said if line.startswith(mark)]
    reason = reasons[-1] if reasons else f"job {first.job_id} failed"
    raise ConfigError(
        f"{reason} (log: {first.paths.stderr}); finished cells stay in {out / CELLS}, the same "
        "command does the rest"
    )


def _told(config: Launched) -> str:
    return " ".join(f"slurm.{name}={value}" for name, value in config.slurm.items())


def _first(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
