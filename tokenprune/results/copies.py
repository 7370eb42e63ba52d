"""A folder of results keeps the plug-in that made them: `plugins/mine.py`, and what it imports from
its own folder.
"""

from __future__ import annotations

from pathlib import Path

from tokenprune.results.files import PLUGINS
from tokenprune.results.provenance import Code, digest, plugin_files
from tokenprune.storage import replace


def keep(folder: Path, code: Code) -> None:
    """Copies what `code` has of a plug-in. Another version that is there moves to
    `plugins/DIGEST/`.

    A folder of many cells may hold results of both. Raises OSError.
    """
    for name, content in plugin_files(code).items():
        file = folder / PLUGINS / name
        if file.is_file() and (before := file.read_bytes()) != content:
            aside = folder / PLUGINS / digest(before) / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            file.replace(aside)
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            replace(file, content)


def copy_of(folder: Path, name: str, wanted: str) -> Path | None:
    """The copy of the file `name` whose digest is `wanted`, if there is one."""
    for file in (folder / PLUGINS / name, folder / PLUGINS / wanted / name):
        if file.is_file() and digest(file.read_bytes()) == wanted:
            return file
    return None
