"""The folder of a run: one writer, no answer ever removed, nothing left where there is none."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenprune.errors import ConfigError
from tokenprune.results.files import CONFIG, RECORDS, SUMMARY
from tokenprune.results.journal import count
from tokenprune.storage import NAMES as LOCKS
from tokenprune.storage import exclusive, first_process

_SHARED = "TOKENPRUNE_RUN"  # how processes that Lightning starts learn of the folder


@contextmanager
def run_folder(*, out: str | None, resume: str | None, spec: str) -> Iterator[Path]:
    """`resume=`, or a new folder `out=`, or `runs/<time>-<spec>`, which nobody else writes until
    the block ends.

    Whatever the block raises, a folder that holds an answer stays, and the error carries a note
    that says how to go on; of a new one that holds none nothing is left. Raises ConfigError, also
    for a folder in use.
    """
    if not first_process():
        folder = _shared(resume or os.environ.get(_SHARED) or out)
        try:
            yield folder
        except BaseException as error:
            _tell(error, folder, begun=False)
            raise
        return
    folder = _resumed(resume) if resume else _new(out, spec)
    made = [parent for parent in folder.parents if not parent.exists()]
    new = not folder.exists()
    with exclusive(folder):
        if not resume:
            _check_empty(folder)
        outside = os.environ.get(_SHARED)
        os.environ[_SHARED] = str(folder)
        try:
            yield folder
        except BaseException as error:
            if not _tell(error, folder, begun=bool(resume)):
                _remove(folder, new, made)
            raise
        finally:
            os.environ.pop(_SHARED)
            if outside is not None:
                os.environ[_SHARED] = outside


def _tell(error: BaseException, folder: Path, begun: bool) -> bool:
    """Whether `folder` holds what has to stay, which is then noted on the error; a run that had
    `begun` stays, too.
    """
    if (folder / SUMMARY).exists():
        error.add_note(f"the run is finished: its results are in {folder}")
        return True
    done = count(folder)
    if done or begun or (folder / RECORDS).exists():
        answers = "1 answer is kept" if done == 1 else f"{done} answers are kept"
        error.add_note(f"{answers}: go on with: tokenprune run resume={shlex.quote(str(folder))}")
        return True
    return False


def _shared(folder: str | None) -> Path:
    """The first process's folder."""
    if not folder:
        raise ConfigError(
            "processes that are started from outside need one folder for all of them: add out=DIR"
        )
    return Path(folder).expanduser()


def _resumed(resume: str) -> Path:
    folder = Path(resume).expanduser()
    if (folder / SUMMARY).exists():
        raise ConfigError(f"resume={resume} is finished: its results are in {folder / SUMMARY}")
    return folder


def _new(out: str | None, spec: str) -> Path:
    if out:
        return Path(out).expanduser()
    wanted = candidate = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{spec}"
    number = 2
    while candidate.exists():  # another run began in the same second
        candidate, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return candidate


def _check_empty(folder: Path) -> None:
    if (folder / CONFIG).exists() and not (folder / SUMMARY).exists():
        raise ConfigError(
            f"out={folder} holds an unfinished run: go on with resume={folder}, or remove it"
        )
    if any(file.name not in LOCKS for file in folder.iterdir()):
        raise ConfigError(
            f"out={folder} is not empty: write a folder that does not exist yet, or remove it"
        )


def _remove(folder: Path, new: bool, made: list[Path]) -> None:
    """What this run has made of the folder, and of its parents."""
    for inside in folder.iterdir():
        shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    for path in [*([folder] if new else []), *made]:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
