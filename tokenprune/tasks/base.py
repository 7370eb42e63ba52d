"""What a task is: a map-style data set of videos with a question each, and a metric for its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from tokenprune.tasks.scoring import METRICS


@dataclass(frozen=True)
class Sample:
    """One video, one question, the answer expected."""

    id: str
    question: str
    answer: str
    category: str
    frames: Tensor  # uint8 [f h w 3], RGB
    evidence: tuple[int, ...] = ()  # the frames without which nobody can answer, where that is known
    metric: str = "exact_match"  # a name in scoring.METRICS
    group: str | None = None  # samples of one group, such as questions about one video, are not independent
    times: tuple[float, ...] | None = None  # seconds at which the frames appear in their video file, where known


class Label(NamedTuple):
    """A sample without its video: what a record of it says even where the video cannot be read."""

    id: str
    category: str
    question: str
    answer: str
    group: str | None = None  # as of its `Sample`; None: a group of its own


class Task(ABC):
    """A map-style data set: `task[i]` is a pure function of the arguments the task was built with and of `i`."""

    name: str
    max_new_tokens: int | None = None  # the longest answer that a benchmark allows, if it says so

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category its samples may have; the task's own name where it has one kind of question."""
        return (self.name,)

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; the same one in every process and on every call."""

    @abstractmethod
    def label(self, index: int) -> Label:
        """Sample `index` without its video, quickly."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Plain values that change whenever a sample, its video or its scoring does: what results may be reused for."""

    def metrics(self, predictions: Mapping[int, str]) -> dict[str, float]:
        """A benchmark's own figures over all answers, by sample; those besides the mean score, if it has any."""
        return {}

    def score(self, prediction: str, sample: Sample) -> float:
        """How right `prediction` is, in [0, 1]; nan where nobody knows."""
        return METRICS[sample.metric](prediction, sample.answer)
