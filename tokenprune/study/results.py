"""The numbers of a study: records of finished cells to one row per cell, compared with the full model and `random`."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tokenprune.errors import ConfigError
from tokenprune.statistics import FEW, Estimate, Resamples
from tokenprune.study.keyframes import Importance, importance
from tokenprune.study.plan import VANILLA, Cell

CONTROL = "random"  # the label of the strategy that all others are compared with
TOLERANCE = 0.005  # measured retention may differ from the budget by so much

Records = Sequence[Mapping[str, Any]]


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
    to_vanilla: Estimate | None  # None: it is the full model
    to_control: Estimate | None  # None: it is the control, the full model, or there is no control
    to_host: Estimate | None  # what the allocator adds to the same method; None: no allocator

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
    fewest: int  # samples of the smallest family

    @property
    def vanilla(self) -> Row:
        return self.rows[0]

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self.vanilla.families)

    @property
    def tells(self) -> bool:
        """Whether the intervals mean anything: a small family may show no spread by luck."""
        return self.fewest >= FEW

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


class _Paired:
    """Estimates over one list of samples; a score that is not there (nan) leaves its sample out."""

    def __init__(self, families: Sequence[str], resamples: int, seed: int) -> None:
        self._families, self._number, self._seed = np.asarray(families), resamples, seed
        self._all = Resamples(families, resamples, seed)

    def estimate(self, scores: np.ndarray) -> Estimate | None:
        known = ~np.isnan(scores)
        if not known.any():
            return None
        drawn = self._all if known.all() else Resamples(self._families[known].tolist(), self._number, self._seed)
        return drawn.estimate(scores[known])


def gather(cells: Sequence[Cell], records: Mapping[str, Records], resamples: int, seed: int) -> Results:
    """Results of `cells` from the records of those that have a pipeline, by slug. ConfigError without the full model's.

    A cell's numbers come from the samples it answered, and a difference from those that both sides answered.
    """
    vanilla = records[cells[0].slug]
    answered = {slug: [record for record in own if "error" not in record] for slug, own in records.items()}
    if not answered[cells[0].slug]:
        raise ConfigError(f"the full model answered no sample: {vanilla[0]['error'] if vanilla else 'there is none'}")
    paired = _Paired([record["category"] for record in vanilla], resamples, seed)
    scores = {}
    for cell in cells:
        if cell.pipeline is not None:
            by_id = {record["id"]: record["score"] for record in answered[cell.slug]}
            own = [by_id.get(record["id"], np.nan) for record in vanilla]
            scores[cell.method, cell.guide, cell.tokens] = np.array(own, dtype=float)

    def difference(cell: Cell, method: str, tokens: int) -> Estimate | None:
        mine, other = scores[cell.method, cell.guide, cell.tokens], scores.get((method, None, tokens))
        return None if other is None or mine is other else paired.estimate(mine - other)

    rows, failed = [], []
    for cell in cells:
        if cell.pipeline is None:
            continue
        own, every = answered[cell.slug], len(records[cell.slug])
        macro = paired.estimate(scores[cell.method, cell.guide, cell.tokens])
        if macro is None:
            failed.append(replace(cell, reason=f"no sample was answered: {records[cell.slug][0]['error']}"))
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
                difference(cell, VANILLA, cells[0].tokens),
                None if cell.method == VANILLA else difference(cell, CONTROL, cell.tokens),
                None if cell.guide is None else difference(cell, cell.method, cell.tokens),
            )
        )
    return Results(
        tuple(rows),
        tuple(cell for cell in cells if cell.pipeline is None),
        tuple(failed),
        tuple(_importance(cells, answered, resamples, seed)),
        len(vanilla),
        min(Counter(record["category"] for record in answered[cells[0].slug]).values()),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _families(records: Records) -> dict[str, float]:
    """Mean score by category, in order of appearance."""
    names = dict.fromkeys(record["category"] for record in records)
    return {name: statistics.fmean(r["score"] for r in records if r["category"] == name) for name in names}


def _importance(
    cells: Sequence[Cell], records: Mapping[str, Records], resamples: int, seed: int
) -> Iterator[Importance]:
    """Once per guide: its weights come from the uncompressed prompt, so any of its cells has them."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.guide is not None and cell.pipeline is not None:
            seen.setdefault(cell.guide, cell)
    for guide, cell in seen.items():
        if (found := importance(guide, records[cell.slug], resamples, seed)) is not None:
            yield found
