"""Runs the notebooks and stores what they show: `python docs/notebooks.py` (`make notebooks`)."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent / "notebooks"
_SECONDS = 300  # that a cell may take
# bars of other libraries are no part of what is shown
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}


def books(names: list[str]) -> dict[Path, Any]:
    """The notebooks that are named, else all."""
    files = [file for file in sorted(FOLDER.glob("*.ipynb")) if not names or file.stem in names]
    return {file: nbformat.read(file, as_version=4) for file in files}


def execute(book: Any) -> None:
    """Makes all outputs of a notebook anew, in a kernel of its own and an empty folder.

    `tokenprune` is the one beside this Python. Raises nbclient.exceptions.CellExecutionError.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, **_QUIET, "PATH": path}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(book, timeout=_SECONDS, record_timing=False)
        client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]  # TCP on this machine is meant
        client.execute(cwd=folder, env=env)


def main(names: list[str]) -> None:
    """All of them, or those that are named."""
    for file, book in books(names).items():
        execute(book)
        nbformat.write(book, file)
        print(f"ran {file.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
