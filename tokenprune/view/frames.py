"""The frames behind a run's records, read or made again, one sample after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from tokenprune.errors import TokenpruneError
from tokenprune.evaluation.config import LMMS
from tokenprune.loading.device import cores
from tokenprune.pictures.footage import Footage, footage_of
from tokenprune.pictures.of_run import given_to, kind_of, samples_of
from tokenprune.pixels import Kind
from tokenprune.results.read import Run
from tokenprune.tasks import Task

T = TypeVar("T")
OVER = "the time for pictures was over"
_THREADS = 4


class _Source(NamedTuple):
    """What frames are made of."""

    task: Task
    kind: Kind | None
    ours: bool  # a task of this package, which any number of threads may ask


class Frames:
    """Where the page takes frames from.

    A page is written without what cannot be had, so nothing is raised here but told.

    Args:
        run: whose samples they are of
        task: what the run was asked about, where somebody has it; None: it is made again
        seconds: after so many nothing is read any more; None: everything is
    """

    def __init__(self, run: Run, task: Task | None = None, seconds: float | None = None) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds
        self._source, self._closed = _tried(lambda: _opened(run, task))

    @property
    def threads(self) -> int:
        """How many may ask at once: somebody else's task is asked by one."""
        return min(_THREADS, cores()) if self._source is not None and self._source.ours else 1

    def of(self, index: int, frames: Sequence[int]) -> tuple[Footage | None, str | None]:
        """The pictures of sample `index` of the task, whose videos have become so many frames.

        Or why there are none.
        """
        source = self._source
        if source is None:
            return None, self._closed
        if self._until is not None and time.monotonic() > self._until:
            return None, OVER
        return _tried(lambda: footage_of(source.task[index], frames, source.kind))


def _opened(run: Run, task: Task | None) -> _Source:
    config = given_to(run.folder)
    made = samples_of(run, config) if task is None else task
    ours = not config.plugin and not config.task.startswith(LMMS)
    return _Source(made, kind_of(config), ours)


def _tried(made: Callable[[], T]) -> tuple[T | None, str | None]:
    """What was made, or why it was not."""
    try:
        return made(), None
    except (TokenpruneError, OSError) as error:
        return None, str(error)
    except Exception as error:  # of somebody's task: a page without its pictures is a page
        return None, f"{type(error).__name__}: {error}"
