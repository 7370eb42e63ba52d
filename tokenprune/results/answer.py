"""What one system answered to one sample, and the roles that systems have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# the full model, the control, the strategy: in the order of tables
VANILLA, RANDOM, STRATEGY = ROLES = ("vanilla", "random", "strategy")
# fields of an answer that are the sample's: a record has them once
ASKED = (
    "index",
    "id",
    "category",
    "group",
    "question",
    "options",
    "answer",
    "frame_times",
    "duration",
    "evidence",
)


def subject_of(roles: Sequence[str] | Mapping[str, Any]) -> str:
    """The role that a run is about: its strategy, else the control, else the full model."""
    return next(role for role in reversed(ROLES) if role in roles)


@dataclass(frozen=True)
class Answer:
    """What one system made of one sample: plain numbers, lists and words, as files have them."""

    index: int  # of the sample in its task
    id: str
    category: str
    question: str
    answer: str  # the right one
    prediction: str = ""
    score: float | None = None  # None where the right answer is not known
    # or empty, unparsed, guessed: what the score could make of the prediction
    reading: str = "read"
    # what a judge model made of the prediction, where one was asked; see `Task.verdict`
    verdict: dict[str, Any] | None = None
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
    duration: float | None = None  # seconds of the whole video, where known
    # frames that show what was asked for, where the task knows
    evidence: list[int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON; `from_dict` takes it back.

        Shares its lists: copying them takes longer than writing.
        """
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Answer:
        """What `as_dict` was made of."""
        return cls(**{**line, "options": tuple(line.get("options", ()))})
