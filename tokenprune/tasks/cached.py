"""A task whose samples are made once: several systems answer the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenprune.tasks.base import Label, Sample, Task


class Kept(Task):
    """The first `limit` samples of a task, made once as far as `spare` bytes hold their frames."""

    def __init__(self, task: Task, spare: int, limit: int | None = None) -> None:
        self.name, self.max_new_tokens = task.name, task.max_new_tokens
        self._task, self._spare = task, spare
        self._size = len(task) if limit is None else min(limit, len(task))
        self._made: dict[int, Sample] = {}

    @property
    def categories(self) -> tuple[str, ...]:
        return self._task.categories

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Sample:
        if index in self._made:
            return self._made[index]
        sample = self._task[index]
        if sample.nbytes <= self._spare:
            self._made[index] = sample
            self._spare -= sample.nbytes
        return sample

    def label(self, index: int) -> Label:
        return self._task.label(index)

    def fingerprint(self) -> Mapping[str, Any]:
        return self._task.fingerprint()

    def metrics(self, predictions: Mapping[int, str]) -> dict[str, float]:
        return self._task.metrics(predictions)

    def score(self, prediction: str, sample: Sample) -> float:
        return self._task.score(prediction, sample)

    def is_of(self, index: int, part: Mapping[str, Any]) -> bool:
        return self._task.is_of(index, part)

    def verdict(self, prediction: str, sample: Sample) -> Mapping[str, Any] | None:
        return self._task.verdict(prediction, sample)

    def recall(self, sample_id: str, prediction: str, verdict: Mapping[str, Any]) -> None:
        self._task.recall(sample_id, prediction, verdict)

    def reading(self, prediction: str, sample: Sample) -> str:
        return self._task.reading(prediction, sample)
