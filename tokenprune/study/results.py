"""The numbers of a study: records of finished cells to one row per cell, compared with the full
model and `random`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from tokenprune.errors import ConfigError
from tokenprune.results.statistics import Estimate, Paired, Resamples, enough, holm
from tokenprune.study.keyframes import Importance, importance
from tokenprune.study.plan import VANILLA, Cell

CONTROL = "random"  # the label of the strategy that all others are compared with
TOLERANCE = 0.005  # measured retention may differ from the budget by so much

Records = Sequence[Mapping[str, Any]]


# one set of comparisons each, corrected for its number
COMPARED = ("to_vanilla", "to_control", "to_host")


class Scores:
    """Scores of cells side by side; one that is not there (nan) leaves its sample out."""

    def __init__(
        self, cells: Sequence[Cell], records: Mapping[str, Records], resamples: int, seed: int
    ) -> None:
        asked = records[cells[0].slug]
        known = (record for own in records.values() for record in own if "group" in record)
        groups = {record["id"]: record["group"] for record in known}
        self._families = np.array([record["category"] for record in asked])
        self._groups = np.array([groups.get(record["id"]) for record in asked], dtype=object)
        self.resamples, self._seed = resamples, seed
        self._drawn: dict[bytes, Resamples] = {}
        self._of = {}
        for cell in cells:
            if cell.pipeline is not None:
                found = {r["id"]: r["score"] for r in records[cell.slug] if "error" not in r}
                own = [found.get(record["id"], np.nan) for record in asked]
                self._of[cell.method, cell.guide, cell.tokens] = np.array(own, dtype=float)

    def of(self, cell: Cell) -> np.ndarray:
        return self._of[cell.method, cell.guide, cell.tokens]

    def drawn(self, known: np.ndarray) -> Resamples:
        """Resamples of the samples `known`."""
        if (key := known.tobytes()) not in self._drawn:
            families, groups = self._families[known].tolist(), self._groups[known].tolist()
            self._drawn[key] = Resamples(families, self.resamples, self._seed, groups)
        return self._drawn[key]

    def estimate(self, cell: Cell) -> Estimate | None:
        """None where no sample has a score."""
        known = ~np.isnan(self.of(cell))
        return self.drawn(known).estimate(self.of(cell)[known]) if known.any() else None

    def paired(self, cell: Cell, method: str, guide: str | None, tokens: int) -> Paired | None:
        """The cell compared with another; None where that is the same or not there, or they share
        no sample.
        """
        mine, other = self.of(cell), self._of.get((method, guide, tokens))
        if other is None or mine is other:
            return None
        known = ~np.isnan(mine - other)
        return self.drawn(known).paired(mine[known], other[known]) if known.any() else None


@dataclass(frozen=True)
class Row:
    """A finished cell in numbers; differences are paired, sample by sample."""

    cell: Cell
    samples: int  # that were answered
    errors: int  # samples that could not be evaluated; no number knows them
    measured: float  # fraction of visual tokens that lived, mean over LLM layers and samples
    input: float | None  # the same at the LLM's input
    decode: float | None
    flops: float
    families: dict[str, float]
    macro: Estimate
    to_vanilla: Paired | None  # None: it is the full model
    to_control: Paired | None  # None: it is the control, the full model, or there is no control
    to_host: Paired | None  # what the allocator adds to the same method; None: no allocator

    @property
    def off_budget(self) -> bool:
        return abs(self.measured - self.cell.ratio) > TOLERANCE


@dataclass(frozen=True)
class Results:
    """Everything a page is made of."""

    rows: tuple[Row, ...]  # of finished cells, the full model first
    unreachable: tuple[Cell, ...]  # without a pipeline; their reason says why
    failed: tuple[Cell, ...]  # without a single answer, likewise
    importance: tuple[Importance, ...]
    samples: int
    fewest: int  # independent samples of the smallest family
    scores: Scores

    @property
    def vanilla(self) -> Row:
        return self.rows[0]

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self.vanilla.families)

    def compared(self, name: str) -> list[Paired]:
        """One of COMPARED over all cells."""
        return [found for row in self.rows if (found := getattr(row, name)) is not None]

    def tested(self, name: str) -> int:
        """How many of them have a p, so that it is corrected for this number."""
        return sum(found.p is not None for found in self.compared(name))

    @property
    def out_of_reach(self) -> int:
        """The size of the largest set of comparisons, where it has too many for any to be a claim;
        else 0.
        """
        pairs = [comb(len(list(self.at(tokens))), 2) for tokens in self.budgets]
        most = max(*map(self.tested, COMPARED), *pairs)
        return 0 if enough(most, self.scores.resamples) else most

    @property
    def told(self) -> bool:
        """Whether any difference has an interval."""
        return any(one.interval for name in COMPARED for one in self.compared(name))

    @property
    def missing(self) -> tuple[Cell, ...]:
        """Cells without numbers."""
        return self.unreachable + self.failed

    @property
    def budgets(self) -> tuple[int, ...]:
        """Tokens per frame, the largest first, without the full model's."""
        found = {row.cell.tokens for row in self.rows[1:]} | {cell.tokens for cell in self.missing}
        return tuple(sorted(found, reverse=True))

    def at(self, tokens: int) -> Iterator[Row]:
        """The rows at one budget, the full model not among them."""
        return (row for row in self.rows[1:] if row.cell.tokens == tokens)

    def better(self, tokens: int) -> Iterator[tuple[Row, Row]]:
        """Pairs of rows at one budget whose first is above its second, corrected for their number."""
        pairs = list(combinations(self.at(tokens), 2))
        found = holm(
            [self.scores.paired(a.cell, b.cell.method, b.cell.guide, tokens) for a, b in pairs]
        )
        for (row, other), paired in zip(pairs, found, strict=True):
            if paired and paired.sign:
                yield (row, other) if paired.sign > 0 else (other, row)


def gather(
    cells: Sequence[Cell], records: Mapping[str, Records], resamples: int, seed: int
) -> Results:
    """Results of `cells` from the records of those that have a pipeline, by slug. ConfigError
    without the full model's.

    A cell's numbers come from the samples it answered, and a difference from those that both sides
    answered.
    """
    vanilla = records[cells[0].slug]
    answered = {
        slug: [record for record in own if "error" not in record] for slug, own in records.items()
    }
    if not answered[cells[0].slug]:
        raise ConfigError(
            "the full model answered no sample: "
            f"{vanilla[0]['error'] if vanilla else 'there is none'}"
        )
    scores = Scores(cells, records, resamples, seed)
    rows, failed = [], []
    for cell in cells:
        if cell.pipeline is None:
            continue
        own, every = answered[cell.slug], len(records[cell.slug])
        macro = scores.estimate(cell)
        if macro is None:
            failed.append(
                replace(cell, reason=f"no sample was answered: {records[cell.slug][0]['error']}")
            )
            continue
        rows.append(
            Row(
                cell,
                len(own),
                every - len(own),
                statistics.fmean(record["layer_average_ratio"] for record in own),
                _mean(record.get("input_ratio") for record in own),
                _mean(record["decode_ratio"] for record in own),
                statistics.fmean(record["flops_ratio"] for record in own),
                _families(own),
                macro,
                scores.paired(cell, VANILLA, None, cells[0].tokens),
                None if cell.method == VANILLA else scores.paired(cell, CONTROL, None, cell.tokens),
                None if cell.guide is None else scores.paired(cell, cell.method, None, cell.tokens),
            )
        )
    for name in COMPARED:
        corrected = holm([getattr(row, name) for row in rows])
        rows = [replace(row, **{name: found}) for row, found in zip(rows, corrected, strict=True)]
    return Results(
        tuple(rows),
        tuple(cell for cell in cells if cell.pipeline is None),
        tuple(failed),
        tuple(_importance(cells, answered, resamples, seed)),
        len(vanilla),
        scores.drawn(~np.isnan(scores.of(cells[0]))).fewest,
        scores,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _families(records: Records) -> dict[str, float]:
    """Mean score by category, in order of appearance."""
    names = dict.fromkeys(record["category"] for record in records)
    return {
        name: statistics.fmean(r["score"] for r in records if r["category"] == name)
        for name in names
    }


def _importance(
    cells: Sequence[Cell], records: Mapping[str, Records], resamples: int, seed: int
) -> Iterator[Importance]:
    """Once per guide: its weights come from the uncompressed prompt, so any of its cells has them."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.guide is not None and cell.pipeline is not None:
            seen.setdefault(cell.guide, cell)
    known = (importance(guide, records[cell.slug], resamples, seed) for guide, cell in seen.items())
    found = [one for one in known if one is not None]
    for one, advantage in zip(found, holm([one.advantage for one in found]), strict=True):
        assert advantage is not None
        yield replace(one, advantage=advantage)
