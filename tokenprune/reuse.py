"""The full model's answers from an earlier run, where nothing they depend on has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenprune.folder import SUMMARY
from tokenprune.hub import folder as home
from tokenprune.outcome import Outcome
from tokenprune.record import RECORDS

_HASHED = 64 << 20  # bytes of a weight file up to which its content counts; above, its size and time of change


def content_key(model: str, **known: Any) -> str:
    """A digest of everything that the full model's answers and times depend on: the model's files and `known`."""
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for file in sorted(home(model).iterdir()):
        if file.suffix in (".json", ".safetensors", ".jinja"):
            state = file.stat()
            small = state.st_size <= _HASHED
            content = file.read_bytes() if small else f"{state.st_size} {state.st_mtime_ns}".encode()
            digest.update(file.name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def find(folder: Path, key: str, size: int) -> tuple[Path, list[Outcome]] | None:
    """A finished run beside `folder` whose full model answered the first `size` samples, and its outcomes."""
    for other in sorted(folder.parent.glob(f"*/{SUMMARY}"), key=lambda file: file.stat().st_mtime, reverse=True):
        if other.parent == folder:
            continue
        try:
            if json.loads(other.read_text(encoding="utf-8")).get("vanilla_key") != key:
                continue
            outcomes = [outcome for outcome in _vanilla(other.with_name(RECORDS)) if outcome.index < size]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a run of this version's
        if len(outcomes) == size and all(outcome.error is None for outcome in outcomes):
            return other.parent, outcomes
    return None


def _vanilla(records: Path) -> Iterator[Outcome]:
    with records.open(encoding="utf-8") as lines:
        for line in lines:
            record: Mapping[str, Any] = json.loads(line)
            shared = {name: record[name] for name in ("index", "id", "category", "question", "answer")}
            given = {name: record[name] for name in ("group", "options", "frame_times") if name in record}
            yield Outcome.from_dict({**shared, **given, **record["vanilla"]})
