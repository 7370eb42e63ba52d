"""What a task is: a map-style data set of videos with a question each, and a rule that scores an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One video, one question, the answer expected."""

    id: str
    question: str
    answer: str
    category: str
    frames: Tensor  # uint8 [f h w 3], RGB


class Task(ABC):
    """A map-style data set: `task[i]` is a pure function of the arguments the task was built with and of `i`."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; the same one in every process and on every call."""

    @abstractmethod
    def score(self, prediction: str, sample: Sample) -> float:
        """How right `prediction` is, in [0, 1]."""
