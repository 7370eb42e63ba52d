"""The full model's answers from an earlier run, where nothing they depend on has changed.

Answers only, never times: another hour's load would look like a difference between systems. What
becomes of them in the loop: `evaluation/known.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.loading.hub import folder as home
from tokenprune.results.answer import VANILLA, Answer
from tokenprune.results.files import SUMMARY
from tokenprune.results.read import read_run

# what a model is read from
_SUFFIXES, _WORDS = ((".json", ".safetensors", ".jinja"), ("merges.txt", "vocab.txt"))
# bytes of a weight file up to which its content counts; above, its size and time of change
_HASHED = 64 << 20


def weights(model: str, template: str | None = None) -> dict[str, str]:
    """Digests of the model's files by their names, and of a user's file that is its `template`."""
    files = [
        file
        for file in sorted(home(model).iterdir())
        if file.suffix in _SUFFIXES or file.name in _WORDS
    ]
    if template is not None and template.endswith(".jinja"):
        files.append(Path(template).expanduser())
    return {file.name: hashlib.sha256(_state(file)).hexdigest()[:16] for file in files}


def _state(file: Path) -> bytes:
    """What changes with a file: its content or, where that is large, size and time.

    In the hub's cache a file is a link to one that is named after its content, wherever it was
    downloaded and whenever.
    """
    state = file.stat()
    if state.st_size <= _HASHED:
        return file.read_bytes()
    if file.is_symlink() and len(file.resolve().name) == 64:
        return f"{state.st_size} {file.resolve().name}".encode()
    return f"{state.st_size} {state.st_mtime_ns}".encode()


def content_key(files: Mapping[str, str], **known: Any) -> str:
    """A digest of everything that the full model's answers depend on: the model's files, as
    `weights` has them, and `known`.
    """
    return hashlib.sha256(json.dumps([files, known], sort_keys=True).encode()).hexdigest()


def find(folder: Path, keys: Collection[str], size: int) -> tuple[str, str, list[Answer]] | None:
    """The full model's answers to the first `size` samples in a run beside `folder`, without times.

    Before them which of the `keys` it has, and the folder of the run that made them, which may be
    another one: that had reused them, too.
    """
    beside = folder.parent.glob(f"*/{SUMMARY}")
    for file in sorted(beside, key=lambda file: file.stat().st_mtime, reverse=True):
        if file.parent == folder:
            continue
        try:
            run = read_run(file.parent)
            key = run.summary.vanilla_key
            if key is None or key not in keys:
                continue
            answers = [answer for answer in run.answers(VANILLA) if answer.index < size]
            origin = run.summary.systems[VANILLA].reused or str(file.parent)
        except (ConfigError, OSError, ValueError, KeyError, TypeError):
            continue  # not a run of this version's
        if len(answers) == size and all(answer.error is None for answer in answers):
            return key, origin, [replace(answer, time={}) for answer in answers]
    return None
