"""The full model's answers from an earlier run, where nothing they depend on has changed.

Answers only, never times: another hour's load would look like a difference between systems. What
becomes of them in the loop is in `rounds`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenprune.loading.hub import folder as home
from tokenprune.results.answer import Outcome, System
from tokenprune.results.run_folder import RECORDS, SUMMARY

# what a model is read from
_SUFFIXES, _WORDS = ((".json", ".safetensors", ".jinja"), ("merges.txt", "vocab.txt"))
# bytes of a weight file up to which its content counts; above, its size and time of change
_HASHED = 64 << 20


def weights(model: str) -> dict[str, str]:
    """Digests of the model's files by their names."""
    files = (
        file
        for file in sorted(home(model).iterdir())
        if file.suffix in _SUFFIXES or file.name in _WORDS
    )
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


def content_key(model: str, **known: Any) -> str:
    """A digest of everything that the full model's answers depend on: the model's files and
    `known`.
    """
    return hashlib.sha256(json.dumps([weights(model), known], sort_keys=True).encode()).hexdigest()


def offer(vanilla: System, folder: Path, key: str, size: int) -> None:
    """Gives the full model the answers of a run beside `folder`, if there is one."""
    if (found := find(folder, key, size)) is not None:
        vanilla.reused, outcomes = found
        vanilla.known = {outcome.index: replace(outcome, time={}) for outcome in outcomes}


def find(folder: Path, key: str, size: int) -> tuple[str, list[Outcome]] | None:
    """The outcomes of the full model on the first `size` samples in a finished run beside `folder`.

    And the folder of the run that made them, which may be another one: that had reused them, too.
    """
    for other in sorted(
        folder.parent.glob(f"*/{SUMMARY}"), key=lambda file: file.stat().st_mtime, reverse=True
    ):
        if other.parent == folder:
            continue
        try:
            summary = json.loads(other.read_text(encoding="utf-8"))
            if summary.get("vanilla_key") != key:
                continue
            origin = summary["systems"]["vanilla"]["reused"] or str(other.parent)
            outcomes = [
                outcome for outcome in _vanilla(other.with_name(RECORDS)) if outcome.index < size
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a run of this version's
        if len(outcomes) == size and all(outcome.error is None for outcome in outcomes):
            return origin, outcomes
    return None


def _vanilla(records: Path) -> Iterator[Outcome]:
    with records.open(encoding="utf-8") as lines:
        for line in lines:
            record: Mapping[str, Any] = json.loads(line)
            shared = {
                name: record[name] for name in ("index", "id", "category", "question", "answer")
            }
            given = {
                name: record[name] for name in ("group", "options", "frame_times") if name in record
            }
            yield Outcome.from_dict({**shared, **given, **record["vanilla"]})
