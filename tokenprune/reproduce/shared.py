"""Jobs shared among processes that work into one folder: each is done by one of them.

Eight processes with the same command and a GPU each are eight times as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tokenprune.errors import ConfigError
from tokenprune.reproduce.jobs import SCORE, Job, Planned
from tokenprune.storage import exclusive

_AGAIN = 5.0  # seconds until jobs of other processes are asked about again


def shared(
    jobs: Sequence[Planned], locks: Path, say: Callable[[str], None], again: float = _AGAIN
) -> Iterator[Planned]:
    """Every job once this process has it, and nobody else until the next is asked for.

    One that another process is at comes again later, when it is finished and only has to be read;
    so does one whose full model another process is at, since it takes those answers.
    """
    waiting, told = list(jobs), False
    while waiting:
        left = []
        for one in waiting:
            with _held(locks, one.job) as mine:
                if mine:
                    yield one
                else:
                    left.append(one)
        if len(left) == len(waiting):
            if not told:
                say(f"{len(left)} jobs are left, which other processes are at: waiting for them")
                told = True
            time.sleep(again)
        waiting = left


@contextmanager
def _held(locks: Path, job: Job) -> Iterator[bool]:
    """Whether this process has the job now, and its full model's is not another's."""
    if job.kind == SCORE and job.full.digest != job.digest and _busy(locks / job.full.digest):
        yield False
        return
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(locks / job.digest))
        except ConfigError:
            yield False
            return
        yield True
    with suppress(OSError):
        (locks / job.digest).rmdir()


def _busy(folder: Path) -> bool:
    try:
        with exclusive(folder):
            return False
    except ConfigError:
        return True
