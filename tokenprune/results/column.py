"""One column of results: what it is called and means, how it is read from answers and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenprune.results import wording
from tokenprune.results.answer import Answer
from tokenprune.results.statistics import Estimate, Paired

Row = Mapping[str, Any]  # values by column; None: not known, or does not apply
# what follows a column's name where it takes several fields of a file
ALONE, ESTIMATE = ("",), ("", "_low", "_high")
COMPARISON = (*ESTIMATE, "_p", "_p_holm")


@dataclass(frozen=True)
class Column:
    """One property of a system: a field of files (or several), and a column of tables."""

    name: str
    heading: str  # of tables that people read, a line for each word group; empty: in files only
    meaning: str
    kind: type[str] | type[int] | type[float] = float
    unit: str = ""  # %: a fraction that people read in per cent; points: a difference of two; ms
    parts: tuple[str, ...] = ALONE
    # how one answer's value is read, and what a run makes of its answers': see AVERAGES
    of: Callable[[Answer], float | int | None] | None = None
    averaged: str = "mean"

    @property
    def fields(self) -> dict[str, type[str] | type[int] | type[float]]:
        """Fields of a file, with their types."""
        return {f"{self.name}{part}": self.kind for part in self.parts}

    def title(self, rows: Sequence[Row]) -> str:
        """The heading, with what a reader needs to know of the cells below."""
        unit = "" if self.unit == "points" else self.unit
        if self.parts != ALONE:
            known = any(row.get(f"{self.name}_low") is not None for row in rows)
            unit = "[95 %]" if known else ""
        return "\n".join(filter(None, (self.heading, unit)))

    def text(self, row: Row) -> str:
        """The cell that people read; a value that is text already stays as it is."""
        value = row.get(self.name)
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        if self.parts == ESTIMATE:
            return wording.score(estimate_of(row, self.name), apart="\n")
        if self.parts == COMPARISON:
            # a run has both controls and corrects nothing; what is corrected may be a claim
            alone = f"{self.name}_mcnemar_p"
            write = wording.change if alone in row else wording.difference
            return write(paired_of(row, self.name), apart="\n")
        return wording.number(value, self.unit)


def estimate_fields(name: str, found: Estimate | None) -> dict[str, float | None]:
    """An estimate as a file has it."""
    value, interval = (None, None) if found is None else found
    low, high = interval or (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def paired_fields(name: str, found: Paired | None) -> dict[str, float | None]:
    """A comparison as a file has it, without McNemar's p."""
    estimate = None if found is None else Estimate(found.value, found.interval)
    p, p_holm = (None, None) if found is None else (found.p, found.p_holm)
    return {**estimate_fields(name, estimate), f"{name}_p": p, f"{name}_p_holm": p_holm}


def estimate_of(row: Row, name: str) -> Estimate:
    """What `estimate_fields` was made of; the value has to be known."""
    return Estimate(row[name], _interval(row, name))


def paired_of(row: Row, name: str) -> Paired:
    """Likewise, of a comparison."""
    ps = (row.get(f"{name}{part}") for part in ("_p", "_mcnemar_p", "_p_holm"))
    return Paired(row[name], _interval(row, name), *ps)


def _interval(row: Row, name: str) -> list[float] | None:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return None if low is None or high is None else [low, high]
