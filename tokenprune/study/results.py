"""The numbers of a study: a row per cell, compared with the full model and `random`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.results.answer import Answer
from tokenprune.results.columns import AVERAGES, measured
from tokenprune.results.statistics import Estimate, Paired, enough, holm, mean
from tokenprune.study.keyframes import Importance, importance
from tokenprune.study.plan import VANILLA, Cell
from tokenprune.study.scores import Answers, Scores

CONTROL = "random"  # the label of the strategy that all others are compared with
TOLERANCE = 0.005  # measured retention may differ from the budget by so much

# of an answer; not times: cells run side by side on one machine
MEASURED = tuple(column for column in measured() if not column.unit.startswith("ms"))
# one set of comparisons each, corrected for its number
COMPARED = ("to_vanilla", "to_random", "to_host")


@dataclass(frozen=True)
class Row:
    """A finished cell in numbers; differences are paired, sample by sample."""

    cell: Cell
    answered: int  # samples
    errors: int  # samples that could not be evaluated: they are in no number
    measured: Mapping[str, Any]  # by column: means over the samples that were answered
    categories: Mapping[str, float]  # mean scores, in order of appearance
    score: Estimate
    to_vanilla: Paired | None  # None: it is the full model
    to_random: Paired | None  # None: it is the control, the full model, or there is no control
    to_host: Paired | None  # what the allocator adds to the same method; None: no allocator

    @property
    def retention(self) -> float:
        """Visual tokens that lived, mean over LLM layers and samples, as a fraction."""
        return self.measured["layer_average_ratio"]

    @property
    def flops(self) -> float:
        """Operations of the prefill as a fraction of the full model's."""
        return self.measured["flops_ratio"]

    @property
    def off_budget(self) -> bool:
        return abs(self.retention - self.cell.budget) > TOLERANCE


@dataclass(frozen=True)
class Results:
    """Everything a page or a table is made of."""

    rows: tuple[Row, ...]  # of finished cells, the full model first
    unreachable: tuple[Cell, ...]  # without a pipeline; their reason says why
    failed: tuple[Cell, ...]  # without a single answer, likewise
    importance: tuple[Importance, ...]
    samples: int
    scores: Scores

    @property
    def vanilla(self) -> Row:
        return self.rows[0]

    @property
    def cells(self) -> int:
        """Visual tokens of a frame."""
        return self.vanilla.cell.extent.cells

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.vanilla.categories)

    @property
    def missing(self) -> tuple[Cell, ...]:
        """Cells without numbers."""
        return self.unreachable + self.failed

    @property
    def budgets(self) -> tuple[int, ...]:
        """Tokens per frame, the largest first, without the full model's."""
        found = {row.cell.tokens for row in self.rows[1:]} | {cell.tokens for cell in self.missing}
        return tuple(sorted(found, reverse=True))

    def at(self, tokens: int) -> list[Row]:
        """The rows at one budget, the full model not among them."""
        return [row for row in self.rows[1:] if row.cell.tokens == tokens]

    def compared(self, name: str) -> list[Paired]:
        """One of COMPARED over all cells."""
        return [found for row in self.rows if (found := getattr(row, name)) is not None]

    def tested(self, name: str) -> int:
        """How many of them have a p, so that it is corrected for this number."""
        return sum(found.p is not None for found in self.compared(name))

    @property
    def told(self) -> bool:
        """Whether any difference has an interval."""
        return any(one.interval for name in COMPARED for one in self.compared(name))

    @property
    def fewest(self) -> int:
        """Independent samples of the smallest category."""
        return self.scores.fewest(self.vanilla.cell.slug)

    @property
    def too_many(self) -> int:
        """The size of the largest set of comparisons, if it is too large for any claim; else 0."""
        most = max(map(self.tested, COMPARED))
        return 0 if enough(most, self.scores.resamples) else most

    @property
    def common(self) -> int | None:
        """The smallest budget at which every method has numbers; None where there is none."""
        lost = {cell.tokens for cell in self.missing}
        return min((tokens for tokens in self.budgets if tokens not in lost), default=None)

    @property
    def pictured(self) -> int | None:
        """The budget whose categories are shown: where all methods are, else the largest."""
        return self.common or max(self.budgets, default=None)


def gather(cells: Sequence[Cell], answers: Answers, resamples: int, seed: int) -> Results:
    """Results of `cells`, the full model first, from the answers of those that have a pipeline.

    A cell's numbers come from the samples it answered, and a difference from those that both sides
    answered. ConfigError where the full model answered none.
    """
    vanilla = answers[cells[0].slug]
    if all(answer.error is not None for answer in vanilla):
        why = vanilla[0].error if vanilla else "there is none"
        raise ConfigError(f"the full model answered no sample: {why}")
    scores = Scores(answers, cells[0].slug, resamples, seed)
    named = {(cell.method, cell.guide, cell.tokens): cell.slug for cell in cells}
    rows, failed = [], []
    for cell in cells:
        if cell.pipeline is None:
            continue
        found = answers[cell.slug]
        estimate = scores.estimate(cell.slug)
        if estimate is None:
            reason = f"no sample was answered: {found[0].error}"
            failed.append(replace(cell, reason=reason))
            continue
        control = None if cell.method == VANILLA else named.get((CONTROL, None, cell.tokens))
        host = None if cell.guide is None else named.get((cell.method, None, cell.tokens))
        compared = [scores.paired(cell.slug, other) for other in (cells[0].slug, control, host)]
        rows.append(_row(cell, found, estimate, compared))
    return Results(
        tuple(_corrected(rows)),
        tuple(cell for cell in cells if cell.pipeline is None),
        tuple(failed),
        tuple(_importance(cells, answers, resamples, seed)),
        len(vanilla),
        scores,
    )


def _row(
    cell: Cell, answers: Sequence[Answer], score: Estimate, compared: Sequence[Paired | None]
) -> Row:
    """`compared` are those of COMPARED."""
    answered = [answer for answer in answers if answer.error is None]
    figures = {
        column.name: AVERAGES[column.averaged](column.of(answer) for answer in answered)
        for column in MEASURED
        if column.of is not None
    }
    errors = len(answers) - len(answered)
    return Row(cell, len(answered), errors, figures, _by_category(answered), score, *compared)


def _by_category(answers: Sequence[Answer]) -> dict[str, float]:
    """Mean scores, in order of appearance."""
    scores: dict[str, list[float | None]] = {}
    for answer in answers:
        scores.setdefault(answer.category, []).append(answer.score)
    found = {name: mean(values) for name, values in scores.items()}
    return {name: value for name, value in found.items() if value is not None}


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """With p of each set of comparisons corrected for their number."""
    corrected = list(rows)
    for name in COMPARED:
        found = holm([getattr(row, name) for row in corrected])
        pairs = zip(corrected, found, strict=True)
        corrected = [replace(row, **{name: paired}) for row, paired in pairs]
    return corrected


def _importance(
    cells: Sequence[Cell], answers: Answers, resamples: int, seed: int
) -> list[Importance]:
    """Once per guide: its weights come from the whole prompt, so any of its cells has them."""
    first: dict[str, str] = {}
    for cell in cells:
        if cell.guide is not None and cell.pipeline is not None:
            first.setdefault(cell.guide, cell.slug)
    known = [importance(guide, answers[slug], resamples, seed) for guide, slug in first.items()]
    found = [one for one in known if one is not None]
    corrected = holm([one.advantage for one in found])
    return [
        replace(one, advantage=advantage)
        for one, advantage in zip(found, corrected, strict=True)
        if advantage is not None
    ]
