"""Answers of a study that are kept in a file, so that what was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from tokenprune.loading.device import cores


def key_of(parts: Any) -> str:
    """Of one answer: a digest of all that it depends on, of what JSON can write."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Kept:
    """Values by key, a JSON object to a line."""

    file: Path

    def read(self) -> dict[str, Any]:
        """All that are there."""
        if not self.file.exists():
            return {}
        lines = self.file.read_text(encoding="utf-8").splitlines()
        return {key: value for line in lines for key, value in json.loads(line).items()}

    def ask(self, asking: Dataset[dict[str, Any]], unit: str, worth: int = 2) -> dict[str, Any]:
        """The values of all items, each a batch of them, written line by line as they come.

        On all cores from `worth` items up, since a process takes seconds to start.
        """
        number = len(asking)  # pyright: ignore[reportArgumentType] # torch's base class has none
        if not number:
            return {}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        workers = cores() if number >= worth else 0
        context = "spawn" if workers else None
        loader = DataLoader(
            asking, batch_size=None, num_workers=workers, multiprocessing_context=context
        )
        found: dict[str, Any] = {}
        with self.file.open("a", encoding="utf-8") as out:
            for values in tqdm(loader, desc="asking", unit=unit, disable=None):
                out.write(json.dumps(values) + "\n")
                out.flush()
                found |= values
        return found
