"""A run's samples as the page lists them: what each system answered, and what changed by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenprune.results.answer import VANILLA, subject_of
from tokenprune.results.read import Run
from tokenprune.results.wording import percent

# what became of an answer, in the order of the page; signs, since colour alone says nothing
LOST, GAINED, OTHER = "lost", "gained", "other words"
FAILED, WRONG, RIGHT, PARTLY, UNTOLD, SAME = (
    "no answer",
    "wrong",
    "right",
    "partly right",
    "not scored",
    "same",
)
SIGNS = {
    LOST: "▼",
    GAINED: "▲",
    OTHER: "≈",
    FAILED: "!",
    WRONG: "✗",
    PARTLY: "◐",
    UNTOLD: "·",
    SAME: "=",
    RIGHT: "✓",
}
CHANGED = (LOST, GAINED, OTHER)
MEANINGS = {
    LOST: "the full model's answer is worth more",
    GAINED: "it is worth less",
    OTHER: "worth the same, said otherwise",
    FAILED: "a system could not be evaluated on it",
    SAME: "the same words",
}


class Said(NamedTuple):
    """One system's answer."""

    role: str
    label: str
    text: str
    worth: str  # right, wrong, partly right, not scored, no answer
    score: str  # in per cent, where it is neither right nor wrong
    kept: str  # per cent of the visual tokens, mean over layers
    time: str


@dataclass(frozen=True)
class Sample:
    """One sample and its answers."""

    place: int  # in the run
    id: str
    category: str
    question: str
    options: Sequence[str]
    answer: str
    state: str
    said: Sequence[Said]

    @property
    def changed(self) -> bool:
        return self.state in CHANGED


def samples(run: Run) -> list[Sample]:
    """All samples: first those whose answer changed, in each state as the run has them."""
    labels = {role: run.summary.systems[role].label for role in run.roles}
    found = [_sample(place, record, labels) for place, record in enumerate(run.records)]
    order = list(SIGNS)
    return sorted(found, key=lambda one: (order.index(one.state), one.place))


def counted(found: Sequence[Sample]) -> list[tuple[str, int]]:
    """How many samples are in which state, in the order of the page."""
    counts = Counter(one.state for one in found)
    return [(state, counts[state]) for state in SIGNS if counts[state]]


def _sample(place: int, record: Mapping[str, Any], labels: Mapping[str, str]) -> Sample:
    made = {role: record[role] for role in labels}
    return Sample(
        place,
        str(record["id"]),
        str(record["category"]),
        record["question"],
        tuple(record["options"]),
        record["answer"],
        _state(made),
        [_said(role, label, made[role]) for role, label in labels.items()],
    )


def _said(role: str, label: str, made: Mapping[str, Any]) -> Said:
    score, tokens = made["score"], made["tokens"]
    worth = _worth(made)
    kept = tokens.get("layer_average_ratio") if tokens else None
    ms = made["time"].get("answer_ms")
    return Said(
        role,
        label,
        made["prediction"] if made["error"] is None else made["error"],
        worth,
        percent(score) if worth == PARTLY else "",
        percent(kept),
        "" if ms is None else f"{ms:.0f} ms",
    )


def _worth(made: Mapping[str, Any]) -> str:
    if made["error"] is not None:
        return FAILED
    if (score := made["score"]) is None:
        return UNTOLD
    return RIGHT if score >= 1 else WRONG if score <= 0 else PARTLY


def _state(made: Mapping[str, Mapping[str, Any]]) -> str:
    """What the subject's answer is beside the full model's; alone, what it is worth."""
    subject = subject_of(made)
    if any(one["error"] is not None for one in made.values()):
        return FAILED
    if subject == VANILLA or VANILLA not in made:
        return _worth(made[subject])
    before, after = made[VANILLA], made[subject]
    worth = before["score"], after["score"]
    if None not in worth and worth[0] != worth[1]:
        return LOST if worth[1] < worth[0] else GAINED
    alike = _words(before["prediction"]) == _words(after["prediction"])
    return SAME if alike else OTHER


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()
