"""What an evaluation yields: a system, and what it made of each sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenprune.strategy import Pipeline


@dataclass(frozen=True)
class Outcome:
    """What one system made of one sample: plain numbers, lists and words, as they are written to a
    file.
    """

    index: int  # of the sample in its task
    id: str
    category: str
    question: str
    answer: str
    prediction: str = ""
    score: float | None = None  # None where the right answer is not known
    reading: str = (
        "read"  # or empty, unparsed, guessed: what the score could make of the prediction
    )
    tokens: dict[str, Any] = field(default_factory=dict)  # `SampleReport.as_dict`
    # milliseconds, a batch's share; see `Report.time`
    time: dict[str, float | None] = field(default_factory=dict)
    flops_ratio: float = 0.0
    guide_flops_ratio: float = 0.0  # the part of it that an allocator's guide takes
    error: str | None = None  # why there is no answer; then score is None and everything else empty
    group: str | None = None  # of its sample; None: the sample itself
    options: tuple[str, ...] = ()  # of a multiple-choice question
    # seconds at which the frames appear in their file, where known
    frame_times: list[float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON; `from_dict` takes it back.

        Shares its lists: copying them takes longer than writing.
        """
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Outcome:
        """What `as_dict` was made of."""
        return cls(**{**line, "options": tuple(line.get("options", ()))})


@dataclass
class System:
    """A pipeline under evaluation and its outcomes; a control without a pipeline gets one from what
    `own` kept.
    """

    name: str
    label: str
    pipeline: Pipeline | None
    outcomes: list[Outcome] = field(default_factory=list)  # in the task's order
    reused: str | None = None  # the folder of the run that made its answers, if it was another one
    # that run's answers by sample, without times
    known: dict[int, Outcome] = field(default_factory=dict)
    refused: str | None = None  # why answers of another run were not taken

    @property
    def answered(self) -> list[Outcome]:
        """Outcomes without those of samples that could not be evaluated."""
        return [outcome for outcome in self.outcomes if outcome.error is None]

    def by_category(self) -> dict[str, list[float]]:
        """Scores by category, in order of appearance; nothing where nothing was scored."""
        found: dict[str, list[float]] = {}
        for outcome in self.outcomes:
            if outcome.score is not None:
                found.setdefault(outcome.category, []).append(outcome.score)
        return found
