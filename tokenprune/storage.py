"""A file whole or not at all, and a folder with one writer, whatever becomes of the process that
writes.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from tokenprune.errors import ConfigError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_HARD, _SOFT = ".lock", ".lock.soft"
_HOLDER = ".lock.holder"  # who it is: filelock empties the file that it locks
NAMES = (_HARD, _SOFT, _HOLDER)  # of what lies in a folder while somebody writes it
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_SHORT, _LONG = 0.3, 10.0  # seconds
_TRIES = 20  # at a folder that others remove
# of torchrun, Slurm, Lightning, in Lightning's order
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def first_process() -> bool:
    """Whether this process is the first of the run's, which alone writes its folder.

    As torchrun, Slurm and Lightning have it in the environment.
    """
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def replace(file: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all; it is on the disk when this returns. Raises OSError."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with draft.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())  # or a machine that loses its power may keep the name alone
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(out: str) -> Iterator[tuple[Path, Path]]:
    """A folder to write into and the one it becomes when the block ends, `out`; if the block raises
    nothing is left.

    Raises ConfigError for a folder that holds something.
    """
    final = Path(out).expanduser()
    if final.exists() and not final.is_dir():
        raise ConfigError(f"out={out} is a file: write a folder that does not exist yet")
    if final.is_dir() and any(final.iterdir()):
        raise ConfigError(
            f"out={out} is not empty: write a folder that does not exist yet, or remove it"
        )
    draft = final.parent / f".{final.name}.{os.getpid()}.partial"
    made = [parent for parent in final.parents if not parent.exists()]
    try:
        draft.mkdir(parents=True)
        yield draft, final
        if final.exists():
            final.rmdir()
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Nobody else enters `folder`, which is made if needed, before the block ends; ConfigError if
    somebody is there.

    The lock lies on an open file, so a process that was killed leaves none behind. Where the file
    system has no locks a file stands for it; one of a process that is gone is taken over on the
    same machine, and named elsewhere.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: write a folder")
    lock, file = _entered(folder)
    holder = folder / _HOLDER
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # the folder may be gone
            holder.unlink()
        if file.name == _HARD:
            with suppress(OSError):
                # while it is held: whoever has opened it sees that it is gone, and opens another
                file.unlink()
        lock.release()


def _entered(folder: Path) -> tuple[BaseFileLock, Path]:
    """The lock of a folder, which is made if needed: whoever had it may remove it meanwhile."""
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return _acquired(folder)
    return _acquired(folder)


def _acquired(folder: Path) -> tuple[BaseFileLock, Path]:
    from filelock import FileLock, SoftFileLock, Timeout

    # FileLock would turn soft by itself, in some versions over the head of another's soft lock
    hard = _has_locks(folder)
    file = folder / (_HARD if hard else _SOFT)
    lock = FileLock(file) if hard else SoftFileLock(file)
    try:
        lock.acquire(timeout=_patience(folder), poll_interval=0.05)
    except Timeout:
        who = _read(folder / _HOLDER).strip() or "another process"
        gone = "" if hard else f"; if that process is gone, remove {file}"
        raise ConfigError(
            f"{folder} is in use by {who}: wait until it ends, or write another out={gone}"
        ) from None
    return lock, file


def _has_locks(folder: Path) -> bool:
    """Whether the file system knows flock; not all networks' do."""
    try:
        import fcntl
    except ImportError:  # Windows has its own
        return True
    with TemporaryFile(dir=folder) as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            return False
    return True


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


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
