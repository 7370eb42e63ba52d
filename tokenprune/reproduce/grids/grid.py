"""The numbers of an analogue, in the file beside its table: pages are made of nothing else."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.options import typed
from tokenprune.reproduce.files import path
from tokenprune.reproduce.parts import FAILS, HOLDS, UNDECIDED
from tokenprune.storage import replace

SUFFIX = ".analogue.json"
FULL, CONTROL, METHOD = ROLES = ("full", "control", "method")
_DIGITS = 6


@dataclass(frozen=True)
class Interval:
    """A score, in %, or a difference of scores, in points; 95 %, None where samples cannot tell.

    `claimed`: of a difference, 1, -1 or 0 after Holm's correction over the grid's cells; None where
    it was not tested among them.
    """

    value: float
    low: float | None = None
    high: float | None = None
    claimed: int | None = None


@dataclass(frozen=True)
class Line:
    """One cell of the grid.

    Args:
        label, method: as they are shown; the method is without the point of the axes
        role: the full model, a control, or a method
        strategy, options, assistant, frames: what ran
        at: where it stands on the axes
        stands_for: the printed row, by name
        retention: visual tokens that lived, mean over LLM layers, in %; `decode` those that a
            decoding step sees, `flops` the operations of the prefill
        answered, errors: samples
        score: mean over categories
        categories: mean scores of them, in %
        to_full, to_random, to_uniform: paired by sample, at the same measured tokens
    """

    label: str
    method: str
    role: str
    strategy: str
    options: dict[str, Any]
    assistant: str | None
    frames: int
    at: dict[str, Any]
    stands_for: str
    retention: float
    decode: float
    flops: float
    answered: int
    errors: int
    score: Interval
    categories: dict[str, float]
    to_full: Interval | None = None
    to_random: Interval | None = None
    to_uniform: Interval | None = None


@dataclass(frozen=True)
class Told:
    """What the samples say of a claim, on the analogue."""

    says: str
    column: str
    better: str
    worse: str
    difference: Interval | None
    word: str


@dataclass(frozen=True)
class Grid:
    """All of an analogue.

    Args:
        model, task, samples, seed, resamples, max_new_tokens, dtype: what ran
        layers, cells: of the model; visual tokens of a frame
        axes: those that vary, with their values
        translated: what was changed to fit the embedded models, in words
        machine, date, revision, versions: where, when and with what
    """

    model: str
    task: str
    samples: int
    seed: int
    resamples: int
    max_new_tokens: int
    dtype: str
    layers: int
    cells: int
    axes: dict[str, list[Any]]
    translated: list[str]
    lines: list[Line]
    claims: list[Told] = field(default_factory=list)
    machine: str = ""
    date: str = ""
    revision: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def of(self, role: str, frames: int | None = None) -> list[Line]:
        """Lines of one role, in order."""
        return [line for line in self.lines if line.role == role and frames in (None, line.frames)]

    @property
    def verdicts(self) -> dict[str, str]:
        """What all comparisons of a claim say together: one that fails decides, else one that
        cannot tell.
        """
        words: dict[str, set[str]] = {}
        for told in self.claims:
            words.setdefault(told.says, set()).add(told.word)
        order = (FAILS, UNDECIDED, HOLDS)
        return {says: next(word for word in order if word in own) for says, own in words.items()}

    @property
    def frames(self) -> list[int]:
        return list(dict.fromkeys(line.frames for line in self.lines))


def committed(id_: str) -> Path:
    """Where the figures that the project ships are."""
    file = path(id_)
    return file.with_name(file.stem + SUFFIX)


def own(out: Path, id_: str) -> Path:
    """Where those of a user are."""
    return out / f"{id_}{SUFFIX}"


def read(file: Path) -> Grid | None:
    """None where there is no such file. ConfigError for one that says something else."""
    if not file.is_file():
        return None
    try:
        return typed(file.name, json.loads(file.read_text(encoding="utf-8")), Grid)
    except (ValueError, TypeError, ConfigError):
        raise ConfigError(f"{file} does not hold an analogue's figures: remove it") from None


def known(out: Path, id_: str) -> Grid | None:
    """A user's own, else the project's."""
    return read(own(out, id_)) or read(committed(id_))


def write(file: Path, grid: Grid) -> None:
    """Rounded, so that the same run is the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(dataclasses.asdict(grid)), indent=1, ensure_ascii=False)
    replace(file, text + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
