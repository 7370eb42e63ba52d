"""The numbers of a study: records of finished cells to one row per cell, compared with the full model and `random`."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenprune.study.keyframes import Importance, importance
from tokenprune.study.plan import VANILLA, Cell
from tokenprune.study.statistics import Estimate, Resamples

CONTROL = "random"  # the label of the strategy that all others are compared with
TOLERANCE = 0.005  # measured retention may differ from the budget by so much

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """A finished cell in numbers; differences are paired, sample by sample."""

    cell: Cell
    measured: float  # fraction of visual tokens that lived, mean over LLM layers and samples
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
    unreachable: tuple[Cell, ...]
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
    def budgets(self) -> tuple[int, ...]:
        """Tokens per frame, the largest first, without the full model's."""
        found = {row.cell.tokens for row in self.rows[1:]} | {cell.tokens for cell in self.unreachable}
        return tuple(sorted(found, reverse=True))

    def at(self, tokens: int) -> Iterator[Row]:
        """The rows at one budget, the full model not among them."""
        return (row for row in self.rows[1:] if row.cell.tokens == tokens)


def gather(cells: Sequence[Cell], records: Mapping[str, Records], resamples: int, seed: int) -> Results:
    """Results of `cells` from the records of those that have a pipeline, by slug."""
    vanilla = records[cells[0].slug]
    order = [record["id"] for record in vanilla]
    drawn = Resamples([record["category"] for record in vanilla], resamples, seed)
    scores = {}
    for cell in cells:
        if cell.pipeline is not None:
            by_id = {record["id"]: record["score"] for record in records[cell.slug]}
            scores[cell.method, cell.guide, cell.tokens] = np.array([by_id[name] for name in order], dtype=float)

    def difference(cell: Cell, method: str, tokens: int) -> Estimate | None:
        mine, other = scores[cell.method, cell.guide, cell.tokens], scores.get((method, None, tokens))
        return None if other is None or mine is other else drawn.estimate(mine - other)

    rows = []
    for cell in cells:
        if cell.pipeline is None:
            continue
        own = records[cell.slug]
        decode = [record["decode_ratio"] for record in own if record["decode_ratio"] is not None]
        rows.append(
            Row(
                cell,
                statistics.fmean(record["layer_average_ratio"] for record in own),
                statistics.fmean(decode) if decode else None,
                statistics.fmean(record["flops_ratio"] for record in own),
                _families(own),
                drawn.estimate(scores[cell.method, cell.guide, cell.tokens]),
                difference(cell, VANILLA, cells[0].tokens),
                None if cell.method == VANILLA else difference(cell, CONTROL, cell.tokens),
                None if cell.guide is None else difference(cell, cell.method, cell.tokens),
            )
        )
    return Results(
        tuple(rows),
        tuple(cell for cell in cells if cell.pipeline is None),
        tuple(_importance(cells, records, resamples, seed)),
        len(vanilla),
        min(Counter(record["category"] for record in vanilla).values()),
    )


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
