"""The folder of a run: one writer, and nothing left of a run that never answered anything; files that are whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenprune.config import RunConfig
from tokenprune.errors import ConfigError, VideoError
from tokenprune.journal import count
from tokenprune.lock import NAME as LOCK
from tokenprune.lock import exclusive

CONFIG, SUMMARY = "config.yaml", "summary.json"  # written first, and last
RECORDS = "records.jsonl"
_SHARED = "TOKENPRUNE_RUN"  # how processes that Lightning starts learn of the folder
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # of torchrun, Slurm, Lightning, in Lightning's order


def first_process() -> bool:
    """Whether this process is the first of the run's, which alone writes its folder; as torchrun, Slurm and Lightning
    have it in the environment."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def replace(file: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all. Raises OSError."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def run_folder(config: RunConfig, spec: str) -> Iterator[Path]:
    """`resume=`, or a new folder `out=`, or `runs/<time>-<spec>`, which nobody else writes until the block ends.

    If the block raises before anything was answered, or something about the configuration, nothing is left of a new
    folder; else its answers stay, and the message says how to go on. Raises ConfigError, also for a folder in use.
    """
    if not first_process():
        yield _shared(config)
        return
    folder = _wanted(config, spec)
    made = [parent for parent in folder.parents if not parent.exists()]
    new = not folder.exists()
    with exclusive(folder):
        if not config.resume:
            _check_empty(folder)
        outside = os.environ.get(_SHARED)
        os.environ[_SHARED] = str(folder)
        try:
            yield folder
        except BaseException as error:
            done, wrong = count(folder), isinstance(error, ValueError) and not isinstance(error, VideoError)
            if config.resume or (done and not wrong):
                how = f"go on with: tokenprune run resume={folder}"
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt(f"interrupted, {done} answers are kept: {how}") from None
                error.add_note(f"{done} answers are kept: {how}")
            else:
                _remove(folder, new, made)
            raise
        finally:
            os.environ.pop(_SHARED)
            if outside is not None:
                os.environ[_SHARED] = outside


@contextmanager
def whole_folder(out: str) -> Iterator[tuple[Path, Path]]:
    """A folder to write into and the one it becomes when the block ends, `out`; if the block raises nothing is left.

    Raises ConfigError for a folder that holds something.
    """
    final = Path(out).expanduser()
    if final.exists() and not final.is_dir():
        raise ConfigError(f"out={out} is a file: write a folder that does not exist yet")
    if final.is_dir() and any(final.iterdir()):
        raise ConfigError(f"out={out} is not empty: write a folder that does not exist yet, or remove it")
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


def _shared(config: RunConfig) -> Path:
    """The first process's folder."""
    if folder := config.resume or os.environ.get(_SHARED) or config.out:
        return Path(folder).expanduser()
    raise ConfigError("processes that are started from outside need one folder for all of them: add out=DIR")


def _wanted(config: RunConfig, spec: str) -> Path:
    if config.resume:
        folder = Path(config.resume).expanduser()
        if (folder / SUMMARY).exists():
            raise ConfigError(f"resume={config.resume} is finished: its results are in {folder / SUMMARY}")
        return folder
    if config.out:
        return Path(config.out).expanduser()
    wanted = candidate = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{spec}"
    number = 2
    while candidate.exists():  # another run began in the same second
        candidate, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return candidate


def _check_empty(folder: Path) -> None:
    if (folder / CONFIG).exists() and not (folder / SUMMARY).exists():
        raise ConfigError(f"out={folder} holds an unfinished run: go on with resume={folder}, or remove it")
    if any(file.name != LOCK for file in folder.iterdir()):
        raise ConfigError(f"out={folder} is not empty: write a folder that does not exist yet, or remove it")


def _remove(folder: Path, new: bool, made: list[Path]) -> None:
    """What this run has made of the folder, and of its parents."""
    for inside in folder.iterdir():
        shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    for path in [*([folder] if new else []), *made]:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
