"""A system under evaluation: a pipeline in its role, and what it answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenprune.results.answer import Answer
from tokenprune.strategy import Pipeline


@dataclass
class System:
    """A pipeline in a role; the control has none before the strategy has answered."""

    name: str  # its role
    label: str
    pipeline: Pipeline | None
    answers: Sequence[Answer] = ()  # in the task's order
    reused: str | None = None  # the folder of the run that made its answers, if it was another one
    refused: str | None = None  # why answers of another run were not taken

    @property
    def answered(self) -> list[Answer]:
        """Answers without those of samples that could not be evaluated."""
        return [answer for answer in self.answers if answer.error is None]
