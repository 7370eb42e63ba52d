"""What a run amounts to, as `summary.json` holds it: a few figures per system."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tokenprune.results.answer import ROLES, subject_of
from tokenprune.results.column import estimate_fields, estimate_of, paired_fields, paired_of
from tokenprune.results.statistics import Estimate, Paired

_PLAIN = ("label", "pipeline", "reused", "refused", "samples", "errors")  # of a system's row
_ASKED = ("model", "assistant", "task", "frames", "seed")  # of a setting, likewise


@dataclass(frozen=True)
class Setting:
    """What was asked of which model."""

    spec: str = "none"  # of the strategy, as it was given
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: float | None = None
    model: str = "tiny"
    assistant: str | None = None
    task: str | None = None
    video: str | None = None
    question: str | None = None
    frames: int = 16
    seed: int = 0
    sampling: str | None = None  # None where a task draws its frames itself
    short: str | None = None  # likewise
    judge: str | None = None  # that scored the answers, where a task asks one
    template: str | None = None  # of prompts, and what else was chosen about the model
    time_instruction: bool = False
    pool: str | None = None
    newline: str | None = None
    newline_rule: str | None = None
    device_map: str | None = None
    bits: int | None = None
    note: str | None = None  # what to beware of with these models


@dataclass(frozen=True)
class SystemSummary:
    """One system in figures, over the samples that all systems of the run answered."""

    label: str
    pipeline: str | None
    reused: str | None  # the run that its answers are from, if another one
    refused: str | None  # why answers of another run were not taken
    samples: int
    errors: int
    score: Estimate | None  # None where no answer is known
    to_vanilla: Paired | None  # None of the full model itself, and where there is none
    share_of_vanilla: float | None
    to_random: Paired | None  # of the strategy alone
    measured: Mapping[str, float | int | None]  # by column, see `columns.measured`

    def as_dict(self) -> dict[str, Any]:
        """A row by names of columns; `from_dict` takes it back."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            **estimate_fields("score", self.score),
            **_uncorrected("to_vanilla", self.to_vanilla),
            "share_of_vanilla": self.share_of_vanilla,
            **_uncorrected("to_random", self.to_random),
            **self.measured,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> SystemSummary:
        """What `as_dict` was made of. KeyError where something is missing."""
        score = None if row["score"] is None else estimate_of(row, "score")
        compared: dict[str, Any] = {
            name: None if row[name] is None else paired_of(row, name)
            for name in ("to_vanilla", "to_random")
        }
        plain = {name: row[name] for name in (*_PLAIN, "share_of_vanilla")}
        bare = cls(**plain, **compared, score=score, measured={})
        measured = {name: row[name] for name in row if name not in bare.as_dict()}
        return dataclasses.replace(bare, measured=measured)


def _uncorrected(name: str, found: Paired | None) -> dict[str, float | None]:
    """Nothing is corrected for the number of comparisons of a run."""
    written = paired_fields(name, found)
    del written[f"{name}_p_holm"]
    return {**written, f"{name}_mcnemar_p": None if found is None else found.mcnemar_p}


@dataclass(frozen=True)
class CategorySummary:
    """One category's scores, by role."""

    samples: int
    scores: Mapping[str, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """`{"samples": 5, "vanilla": {"score": ..., "score_low": ..., "score_high": ...}, ...}`."""
        scores = {role: estimate_fields("score", found) for role, found in self.scores.items()}
        return {"samples": self.samples, **scores}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> CategorySummary:
        """What `as_dict` was made of."""
        roles = [role for role in ROLES if role in found]
        scores = {role: estimate_of(found[role], "score") for role in roles}
        return cls(found["samples"], scores)


@dataclass(frozen=True)
class Summary:
    """What `summary.json` holds."""

    setting: Setting
    samples: int
    errors: int  # samples that some system could not be evaluated on: no figure knows them
    first_error: str | None
    timed: int  # samples that were timed under every system, which times are medians over
    systems: Mapping[str, SystemSummary]  # by role, in the order of ROLES
    categories: Mapping[str, CategorySummary]  # in order of appearance
    # a benchmark's own figures by role, as it reports them
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # where it was made, see `record.environment`, with which code, and what reuse goes by
    environment: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    vanilla_key: str | None = None

    @property
    def subject(self) -> SystemSummary:
        """The system that the run is about."""
        return self.systems[subject_of(self.systems)]

    def rows(self) -> list[dict[str, Any]]:
        """A row per system by names of columns, with what was asked of which model."""
        asked = {name: getattr(self.setting, name) for name in _ASKED}
        return [
            {"role": role, **system.as_dict(), **asked} for role, system in self.systems.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` takes them back."""
        found = {**dataclasses.asdict(self.setting), **vars(self)}
        del found["setting"]
        systems = {role: system.as_dict() for role, system in self.systems.items()}
        categories = {name: category.as_dict() for name, category in self.categories.items()}
        return {**found, "systems": systems, "categories": categories}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Summary:
        """What `as_dict` was made of. KeyError where something is missing."""
        plain = [one.name for one in fields(cls) if one.name != "setting"]
        read: dict[str, Any] = {name: found[name] for name in plain}
        read["setting"] = Setting(**{one.name: found[one.name] for one in fields(Setting)})
        read["systems"] = {
            role: SystemSummary.from_dict(row) for role, row in found["systems"].items()
        }
        read["categories"] = {
            name: CategorySummary.from_dict(row) for name, row in found["categories"].items()
        }
        return cls(**read)
