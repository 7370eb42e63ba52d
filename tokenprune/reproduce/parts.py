"""Parts of a table's file besides its columns and rows: claims, the analogue, the drawing.

Light to import, as `schema` is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokenprune.errors import ConfigError

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"
VERDICTS = (HOLDS, FAILS, UNDECIDED)  # on a claim

Selector = dict[str, Any]  # rows whose `method` and settings are these: {method: DyCoke, K: 0.7}


@dataclass(frozen=True)
class Claim:
    """A statement that the authors draw from a table, as a comparison that can be decided.

    `better` and `worse` select rows: as many of both, compared one by one, or one against many.

    Args:
        says: the statement
        better: rows that should be ahead
        worse: rows that should be behind
        column: what is compared
        at_least: by how much: a difference, or a ratio where `ratio` is set
        ratio: whether better over worse is meant (worse over better where less is better)
        analogue: what of it can be asked of the embedded models, as {column: score}
        ours: whether it is ours to test, or about the authors' own machine
        verdict: what the printed figures say of it; another one is a defect of the file
    """

    says: str
    better: Selector
    worse: Selector
    column: str
    at_least: float = 0.0
    ratio: bool = False
    analogue: dict[str, Any] = field(default_factory=dict)
    ours: bool = True
    verdict: str = HOLDS

    def __post_init__(self) -> None:
        one_of("verdict", self.verdict, VERDICTS)


@dataclass(frozen=True)
class Method:
    """One strategy of an analogue, in the words of `tokenprune study`."""

    strategy: str
    label: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    assistant: str | None = None
    plugin: str | None = None
    stands_for: str = ""  # the printed row, by name


@dataclass(frozen=True)
class Analogue:
    """A table's grid on the embedded models.

    Args:
        model, assistant, task, frames, samples: as in `tokenprune run`
        methods: what is run
        axes: options that vary, each with its values, as {dycoke.merge: [0.3, 0.5]}, `frames` too
        keep: budgets that are asked for; empty where options are the budget
        translated: what was changed to fit the embedded models, in words
    """

    model: str = "tiny"
    assistant: str | None = None
    task: str = "tinyvqa"
    frames: int = 16
    samples: int = 150
    methods: list[Method] = field(default_factory=list)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    keep: list[float] = field(default_factory=list)
    translated: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Figure:
    """How a figure is drawn: a kind of `tokenprune.pictures`, and its options."""

    draws: str
    options: dict[str, Any] = field(default_factory=dict)


def one_of(name: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise ConfigError(f"{name}: {value} is unknown: write one of {', '.join(values)}")
