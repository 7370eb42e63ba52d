"""What an evaluation yields: a system, and what it made of each sample."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenprune.report import SampleReport
from tokenprune.strategy import Pipeline


@dataclass(frozen=True)
class Outcome:
    """What one system made of one sample."""

    id: str
    category: str
    question: str
    answer: str
    prediction: str
    score: float | None  # None where nobody knows the answer
    report: SampleReport
    time: dict[str, float | None]  # milliseconds; a batch's share, but for decode_ms_per_token
    flops_ratio: float
    guide_flops_ratio: float  # the part of it that an allocator's guide takes


@dataclass
class System:
    """A pipeline under evaluation and its outcomes; a control without a pipeline gets one from what `own` kept."""

    name: str
    label: str
    pipeline: Pipeline | None
    outcomes: list[Outcome] = field(default_factory=list)
    score: float | None = None  # macro average over categories
