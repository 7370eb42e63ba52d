"""Answers on disk as they are made, so that a run that is killed at any moment can go on where it
was.

`parts/<system>.<process>.jsonl` holds one line per sample and is only ever appended to: each
process writes its own file. A line without its newline was being written when the process died; it
does not count, and is cut off before the next is appended. Nor does a line that is not JSON, as a
machine that lost its power may leave: its sample is asked again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tokenprune.errors import ConfigError
from tokenprune.results.answer import Answer
from tokenprune.results.files import PARTS

_SYNC = 5.0  # seconds after which what was written is forced onto the disk


class Journal:
    """Answers by system; in memory where there is no `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = None if folder is None else folder / PARTS
        self._made: dict[str, dict[int, Answer]] = defaultdict(dict)
        self._open: dict[str, IO[bytes]] = {}
        self._synced = time.monotonic()

    def append(self, system: str, answer: Answer, process: int) -> None:
        """Takes down one answer; it is in the operating system's hands when this returns, and soon
        on the disk.

        Raises OSError; then a part of a line may be on the disk, which is not read.
        """
        if self._folder is None:
            self._made[system][answer.index] = answer
            return
        if system not in self._open:
            self._folder.mkdir(exist_ok=True)
            file = self._folder / f"{system}.{process}.jsonl"
            _mend(file)
            # nothing that would be written after an error
            self._open[system] = file.open("ab", buffering=0)
        line = memoryview((json.dumps(answer.as_dict(), allow_nan=False) + "\n").encode())
        while line:
            line = line[self._open[system].write(line) :]
        if time.monotonic() - self._synced >= _SYNC:
            self.sync()

    def sync(self) -> None:
        """Forces everything onto the disk: of a machine that loses its power nothing is lost."""
        for stream in self._open.values():
            os.fsync(stream.fileno())
        self._synced = time.monotonic()

    def read(self, system: str) -> dict[int, Answer]:
        """What all processes have written so far, by sample, in the task's order.

        ConfigError for another version's.
        """
        if self._folder is None:
            found = self._made[system]
        else:
            files = sorted(self._folder.glob(f"{system}.*.jsonl"))
            found = {answer.index: answer for file in files for answer in _answers(file)}
        return dict(sorted(found.items()))

    def close(self) -> None:
        with suppress(OSError):  # a disk that is full or gone: the error is known from the writing
            self.sync()
        for stream in self._open.values():
            with suppress(OSError):
                stream.close()
        self._open.clear()

    def discard(self) -> None:
        """Removes the parts, once everything is written elsewhere."""
        self.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def count(folder: Path) -> int:
    """How many answers a run's folder holds so far."""
    return sum(1 for file in (folder / PARTS).glob("*.jsonl") for _ in _lines(file))


def _answers(file: Path) -> Iterator[Answer]:
    for line in _lines(file):
        try:
            yield Answer.from_dict(line)
        except TypeError:
            raise ConfigError(
                f"{file} is of another version of tokenprune: begin a new run in another out="
            ) from None


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            with suppress(ValueError):
                if isinstance(found := json.loads(line), dict):
                    yield found


def _mend(file: Path) -> None:
    """Cuts off what follows the last newline."""
    if not file.exists():
        return
    text = file.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(file, whole)
