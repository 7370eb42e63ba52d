"""Outcomes on disk as they are made, so that a run that is killed at any moment can go on where it was.

`parts/<system>.<process>.jsonl` holds one line per sample and is only ever appended to: each process writes its own
file. A line without its newline was being written when the process died; it does not count, and is cut off before the
next is appended.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tokenprune.outcome import Outcome

PARTS = "parts"


class Journal:
    """Outcomes by system; in memory where there is no `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = None if folder is None else folder / PARTS
        self._made: dict[str, dict[int, Outcome]] = defaultdict(dict)
        self._open: dict[str, IO[str]] = {}

    def append(self, system: str, outcome: Outcome, process: int) -> None:
        """Takes down one outcome; it is in the operating system's hands when this returns."""
        if self._folder is None:
            self._made[system][outcome.index] = outcome
            return
        if system not in self._open:
            self._folder.mkdir(exist_ok=True)
            file = self._folder / f"{system}.{process}.jsonl"
            _mend(file)
            self._open[system] = file.open("a", encoding="utf-8")
        stream = self._open[system]
        stream.write(json.dumps(outcome.as_dict(), allow_nan=False) + "\n")
        stream.flush()

    def read(self, system: str) -> dict[int, Outcome]:
        """What all processes have written so far, by sample, in the task's order."""
        if self._folder is None:
            found = self._made[system]
        else:
            files = sorted(self._folder.glob(f"{system}.*.jsonl"))
            found = {outcome.index: outcome for file in files for outcome in _outcomes(file)}
        return dict(sorted(found.items()))

    def close(self) -> None:
        for stream in self._open.values():
            stream.close()
        self._open.clear()

    def discard(self) -> None:
        """Removes the parts, once everything is written elsewhere."""
        self.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def count(folder: Path) -> int:
    """How many outcomes a run's folder holds so far."""
    return sum(1 for file in (folder / PARTS).glob("*.jsonl") for _ in _lines(file))


def _outcomes(file: Path) -> Iterator[Outcome]:
    return (Outcome.from_dict(json.loads(line)) for line in _lines(file))


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        yield from (line for line in lines if line.endswith("\n"))


def _mend(file: Path) -> None:
    """Cuts off what follows the last newline."""
    if not file.exists():
        return
    text = file.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(file, whole)
