"""One writer per folder: a lock that the system releases whatever happens to the process that holds it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenprune.errors import ConfigError

NAME = ".lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Nobody else enters `folder`, which is made if needed, before the block ends; ConfigError if somebody is there.

    The lock lies on the open file `folder/.lock`, not in it, so a process that was killed leaves none behind.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: write a folder")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    while True:
        held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(held, file):
                break
        except BlockingIOError:
            holder = os.read(held, 200).decode(errors="replace").strip() or "another process"
            os.close(held)
            raise ConfigError(f"{folder} is in use by {holder}: wait until it ends, or write another out=") from None
        except BaseException:
            os.close(held)
            raise
        os.close(held)  # of a holder that ended and removed the file meanwhile
    try:
        os.truncate(held, 0)
        os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        file.unlink(missing_ok=True)  # while it is held: nobody else can have come in
        os.close(held)


def _same(held: int, file: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(held), file.stat())
    except FileNotFoundError:
        return False
