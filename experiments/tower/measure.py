"""What the model answers under each arm, and the tower's multiply-adds beside the full model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from experiments.kept import Kept, key_of
from experiments.tower import arms as written
from experiments.tower.arms import Arm
from tokenprune.bench.towers import Tower, own_grid
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.results.reuse import weights
from tokenprune.runtime.report import SampleReport
from tokenprune.strategies import reuse, tome
from tokenprune.tasks.tinyvqa import TinyVQA

_LONGEST = 48  # tokens of an answer; descriptions take up to 40
_BATCH = 10


class Measured(NamedTuple):
    """One sample under one arm."""

    score: float
    flops: float  # of the tower, as a fraction of the full model's


@dataclass(frozen=True)
class Asking(Dataset[dict[str, list[Any]]]):
    """Measurements by key, a batch at a time; a process that asks loads the model once."""

    task: TinyVQA
    pending: Sequence[tuple[list[int], dict[str, Arm]]]
    model: str
    dtype: str

    def __len__(self) -> int:
        return len(self.pending)

    def __getitem__(self, place: int) -> dict[str, list[Any]]:
        model, processor = self._loaded
        indices, asked = self.pending[place]
        samples = [self.task[index] for index in indices]
        inputs = processor.encode([(sample.frames, sample.full_question) for sample in samples])
        settings = {"max_new_tokens": _LONGEST, **GREEDY}
        found: dict[str, list[Any]] = {}
        for key, arm in asked.items():
            made = generate(model, arm.pipeline, processor, inputs, settings)
            found[key] = [
                Measured(self.task.score(text, sample), self._flops(made.report[row]))
                for row, (text, sample) in enumerate(zip(made.texts, samples, strict=True))
            ]
        return found

    def _flops(self, report: SampleReport) -> float:
        if report.tower is None:
            return 1.0
        vision = self._loaded[0].config.vision_config
        tower, grid = Tower.of(vision), own_grid(vision)
        return tower.share(report.frames, grid, report.tower.layers)

    @cached_property
    def _loaded(self) -> Any:
        return load(self.model, self.dtype, "cpu")


@dataclass(frozen=True)
class Answers:
    """Measurements that are kept in a file, so that an interrupted study goes on where it was."""

    file: Path
    task: TinyVQA
    model: str
    dtype: str

    def of(self, arms: Sequence[Arm]) -> list[list[Measured]]:
        """All samples under each arm."""
        indices = list(range(len(self.task)))
        batches = [indices[start : start + _BATCH] for start in indices[::_BATCH]]
        keys = [[self._key(arm, batch) for arm in arms] for batch in batches]
        kept = Kept(self.file)
        known, pending = kept.read(), []
        for batch, row in zip(batches, keys, strict=True):
            asked = dict(zip(row, arms, strict=True))
            if missing := {key: one for key, one in asked.items() if key not in known}:
                pending.append((batch, missing))
        asking = Asking(self.task, pending, self.model, self.dtype)
        known |= kept.ask(asking, "batch")
        return [
            [Measured(*line) for row in keys for line in known[row[place]]]
            for place in range(len(arms))
        ]

    def _key(self, arm: Arm, batch: Sequence[int]) -> str:
        return key_of([self._asked, repr(arm.pipeline), list(batch)])

    @cached_property
    def _asked(self) -> dict[str, Any]:
        """All that every answer depends on, the methods' files included."""
        files = [Path(module.__file__ or "") for module in (tome, reuse, written)]
        return {
            "task": dict(self.task.fingerprint()),
            "weights": weights(self.model),
            "dtype": self.dtype,
            "max_new_tokens": _LONGEST,
            "sources": [file.read_text(encoding="utf-8") for file in files],
        }
