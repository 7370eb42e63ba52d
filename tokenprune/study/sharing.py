"""Several processes with the same command at the cells of one folder: each cell is one's alone.

Who works there holds a lock of its own in `locks/`, and one for the cell it is at; locks go with
their process, however that ends. The folder as a whole is locked for moments only: to see what is
missing, and to write results.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tokenprune.errors import ConfigError
from tokenprune.storage import exclusive

LOCKS = "locks"
_PROCESS = "process-"  # before the name of a process's own lock
_ENTERING, _WRITING = 60.0, 3600.0  # seconds that others may keep the whole folder
_AGAIN = 1.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while cells run: what was finished stays."""


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else is at `out` before the block ends. ConfigError where somebody is."""
    with exclusive(out):
        if there := _others(out):
            raise ConfigError(
                f"{out} is in use by {there} processes that share it: write launcher=shared to "
                "join them, wait until they end, or write another out="
            )
        shutil.rmtree(out / LOCKS, ignore_errors=True)
        yield


@contextmanager
def joined(out: Path, begin: Callable[[], None]) -> Iterator[None]:
    """This process is one of those at `out`; `begin` is called while nobody else begins.

    ConfigError where a process that does not share is there.
    """
    own = re.sub(r"[^\w.-]", "-", f"{_PROCESS}{socket.gethostname()}-{os.getpid()}")
    with ExitStack() as held:
        with turn(out, _ENTERING):
            begin()
            held.enter_context(exclusive(out / LOCKS / own))
        yield
    with suppress(ConfigError), exclusive(out):
        if not _others(out):  # nobody else can begin now
            shutil.rmtree(out / LOCKS, ignore_errors=True)


@contextmanager
def turn(out: Path, patience: float = _WRITING) -> Iterator[None]:
    """The folder as a whole, once others let it go. ConfigError after `patience` seconds."""
    end = time.monotonic() + patience
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive(out))
                break
            except ConfigError:
                if time.monotonic() > end:
                    raise
                time.sleep(_AGAIN)
        yield


@contextmanager
def held(lock: Path | None) -> Iterator[bool]:
    """Whether this process has `lock` until the block ends; None: nobody else wants it."""
    with ExitStack() as stack:
        try:
            if lock is not None:
                stack.enter_context(exclusive(lock))
        except ConfigError:
            yield False
            return
        yield True


def busy(lock: Path) -> bool:
    """Whether another process holds `lock` now."""
    with held(lock) as mine:
        return not mine


def _others(out: Path) -> int:
    """How many processes share `out` now."""
    return sum(map(busy, (out / LOCKS).glob(f"{_PROCESS}*")))
