"""One writer per folder, whatever becomes of the process that writes, and on file systems without locks, too."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tokenprune.errors import ConfigError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_HARD, _SOFT = ".lock", ".lock.soft"
_HOLDER = ".lock.holder"  # who it is: filelock empties the file that it locks
NAMES = (_HARD, _SOFT, _HOLDER)  # of what lies in a folder while somebody writes it
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_SHORT, _LONG = 0.3, 10.0  # seconds


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Nobody else enters `folder`, which is made if needed, before the block ends; ConfigError if somebody is there.

    The lock lies on an open file, so a process that was killed leaves none behind. Where the file system has no
    locks a file stands for it; one of a process that is gone is taken over on the same machine, and named elsewhere.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: write a folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = _acquired(folder)
    holder = folder / _HOLDER
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # the folder may be gone
            holder.unlink()
        if not _stands_for_itself(file := Path(lock.lock_file)):
            with suppress(OSError):
                file.unlink()  # while it is held: whoever has opened it sees that it is gone, and opens another
        lock.release()


def _acquired(folder: Path) -> BaseFileLock:
    from filelock import FileLock, SoftFileLock, Timeout

    for kind, name in ((FileLock, _HARD), (SoftFileLock, _SOFT)):
        lock = kind(folder / name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it is soft
                lock.acquire(timeout=_patience(folder), poll_interval=0.05)
            return lock
        except Timeout:
            raise ConfigError(_in_use(folder, folder / name)) from None
        except (OSError, NotImplementedError) as error:
            known = isinstance(error, NotImplementedError) or error.errno in _WITHOUT_LOCKS
            if kind is SoftFileLock or not known:
                raise
            with suppress(OSError):
                (folder / name).unlink()
    raise AssertionError("the soft lock is taken, refused or an error")


def _patience(folder: Path) -> float:
    """A killed process's helpers hold its lock until they notice, some seconds later."""
    holder = _read(folder / _HOLDER).split()
    if len(holder) != 4 or holder[3] != socket.gethostname():
        return _SHORT
    try:
        os.kill(int(holder[1]), 0)
    except ProcessLookupError:
        return _LONG
    except (OSError, ValueError):
        pass
    return _SHORT


def _in_use(folder: Path, file: Path) -> str:
    holder = _read(folder / _HOLDER).strip() or "another process"
    gone = f"; if that process is gone, remove {file}" if _stands_for_itself(file) else ""
    return f"{folder} is in use by {holder}: wait until it ends, or write another out={gone}"


def _stands_for_itself(file: Path) -> bool:
    """Whether the file is the lock, as its content says; else the lock lies on it and it is empty."""
    return bool(_read(file))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
