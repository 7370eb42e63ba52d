"""Our figures on disk: `<table>.ours.json` beside a table's file, and the one of a user's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import typed
from tokenprune.reproduce.cell import Found, Key
from tokenprune.reproduce.files import path
from tokenprune.storage import exclusive, replace

SUFFIX = ".ours.json"


def committed(id_: str) -> Path:
    """Where the figures that the project ships for a table are."""
    file = path(id_)
    return file.with_name(file.stem + SUFFIX)


def own(out: Path, id_: str) -> Path:
    """Where those of a user are."""
    return out / f"{id_}{SUFFIX}"


def read(file: Path) -> dict[Key, Found]:
    """Nothing where there is no such file. ConfigError for one that says something else."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["cells"]
        return {(one["row"], one["column"]): _found(file.name, one["found"]) for one in found}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{file} does not hold figures of a table: remove it") from None


def _found(name: str, values: Mapping[str, Any]) -> Found:
    return typed(name, values, Found)


def write(file: Path, found: Mapping[Key, Found]) -> None:
    """Sorted, so that the same figures are the same file."""
    cells = [
        {"row": row, "column": column, "found": dataclasses.asdict(one)}
        for (row, column), one in sorted(found.items())
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(file, json.dumps({"cells": cells}, indent=1, ensure_ascii=False) + "\n")


def add(file: Path, found: Mapping[Key, Found]) -> None:
    """These besides what stands there; other processes may add at the same time. ConfigError where
    one of them does not let go of the file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = file.with_name(f".{file.name}.lock")
    for last in (*[False] * 30, True):  # a third of a second each
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(folder))
            except ConfigError:
                if last:
                    raise
                continue
            write(file, {**read(file), **found})
        break
    with suppress(OSError):
        folder.rmdir()


def known(out: Path, id_: str) -> dict[Key, Found]:
    """The project's figures, and a user's own before them."""
    return read(committed(id_)) | read(own(out, id_))
