"""One cell of a table: what is printed, what was found here, and the word for how they compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokenprune.reproduce.schema import Column, Row

EXACT, SLIP, WRONG = "exact", "slip", "wrong"
REPRODUCED, DEVIATES, PARTIAL = "reproduced", "deviates", "partial"
SHOWN, NOT_RUN, BLOCKED, NOT_PRINTED = "shown", "not run", "blocked", "not printed"
# with the sign that stands beside each: never told by colour alone
SIGNS = {
    EXACT: "=",
    SLIP: "≠",
    WRONG: "✗",
    REPRODUCED: "✓",
    DEVIATES: "Δ",
    PARTIAL: "◐",
    SHOWN: "",
    NOT_RUN: "·",
    BLOCKED: "–",
    NOT_PRINTED: "",
}
STATUSES = tuple(SIGNS)
MEASURED = ("score", "judged", "speed")


@dataclass(frozen=True)
class Found:
    """A figure of ours for a cell that needs a run; stands in `<table>.ours.json`.

    Args:
        value: in the column's unit, as the printed one
        low, high: the interval of the value, if there is one
        effect: ours minus our full model's, with `effect_low` and `effect_high`
        n, of: samples that were scored, and those that the protocol has; 0: not a matter of samples
        errors: samples that failed
        full: whether this is the full model itself
        judge: the model that scored, if one did
        run: the digest of the job
        settings: of the job, as its folder has them
        machine, date, revision: where, when and with which code
        guessed, unparsed, empty: answers of that kind, where the task knows
        read_otherwise: answers that today's lmms-eval reads differently from the protocol's
        folder: of the run, in `jobs` of the folder that it was made in
    """

    value: float
    low: float | None = None
    high: float | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    n: int = 0
    of: int = 0
    errors: int = 0
    full: bool = False
    judge: str | None = None
    run: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    revision: str | None = None
    guessed: int | None = None
    unparsed: int | None = None
    empty: int | None = None
    read_otherwise: int | None = None
    folder: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        row, name, column: where it stands
        printed: the paper's figure; None: none
        status: one of STATUSES
        ours: our figure; several readings of an analytic one, the first is shown
        why: of a slip, a blocked row, a partial figure
        found: of a measured cell, all that is known
        mine: of a derived cell, what follows from our own cells, where all of them are here
    """

    row: Row
    name: str
    column: Column
    printed: Any
    status: str
    ours: tuple[float, ...] = ()
    why: str = ""
    found: Found | None = None
    mine: float | None = None


Key = tuple[str, str]  # a row's label and a column's name
