"""The lines of an analogue's grid, and what its samples say of claims, from a study's results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenprune.errors import ConfigError
from tokenprune.reproduce.arms import Arm, ArmCell
from tokenprune.reproduce.claims import pairs
from tokenprune.reproduce.grid import CONTROL, FULL, METHOD, Interval, Line, Told
from tokenprune.reproduce.parts import FAILS, HOLDS, UNDECIDED, Claim
from tokenprune.reproduce.schema import Table
from tokenprune.results.answer import Answer
from tokenprune.results.columns import AVERAGES, named
from tokenprune.results.statistics import Estimate, Paired, holm
from tokenprune.study.results import Results, Row
from tokenprune.study.scores import Answers, Scores

CONTROLS = ("random", "uniform")
FULL_MODEL = "full model"
SCORE = "score"  # the column of a claim that is about the mean over categories
(_RETENTION,) = named("layer_average_ratio")


class Block(NamedTuple):
    """Methods on the same samples, their cells in the same order, and all results."""

    arms: list[Arm]
    cells: list[ArmCell]
    results: Results
    answers: Answers

    def slug(self, label: str) -> str | None:
        """Of the method with this label, or of the full model."""
        if label == FULL_MODEL:
            return self.results.vanilla.cell.slug
        found = zip(self.arms, self.cells, strict=True)
        return next((cell.slug for arm, cell in found if arm.label == label), None)


def retention(answers: Sequence[Answer]) -> float:
    """Visual tokens that lived, mean over layers and samples, as a fraction."""
    assert _RETENTION.of is not None
    known = [_RETENTION.of(answer) for answer in answers if answer.error is None]
    found = AVERAGES[_RETENTION.averaged](known)
    if found is None:
        why = answers[0].error if answers else "there is none"
        raise ConfigError(f"a method of the analogue answered no sample: {why}")
    return float(found)


def lines_of(block: Block, several: bool) -> Iterator[Line]:
    """The full model, the methods, then the controls; names tell frames apart if there are
    `several` numbers of them.
    """
    arms = {arm.label: arm for arm in block.arms}
    to_uniform = _to_uniform(block)
    for row in block.results.rows:
        cell = row.cell
        assert isinstance(cell, ArmCell)
        arm, behind = arms.get(cell.method), f", {cell.extent.frames} frames" if several else ""
        if arm is not None:
            yield _line(row, cell, arm.label, arm.method, METHOD, arm, to_uniform.get(cell.slug))
        elif row is block.results.vanilla:
            yield _line(row, cell, FULL_MODEL + behind, FULL_MODEL, FULL)
        else:
            label = f"{cell.method}, {100 * row.retention:.1f} %{behind}"
            yield _line(row, cell, label, cell.method, CONTROL)


def _line(
    row: Row,
    cell: ArmCell,
    label: str,
    method: str,
    role: str,
    arm: Arm | None = None,
    to_uniform: Paired | None = None,
) -> Line:
    return Line(
        label=label,
        method=method,
        role=role,
        strategy=cell.spec,
        options=dict(cell.options),
        assistant=cell.assistant,
        frames=cell.extent.frames,
        at={} if arm is None else dict(arm.at),
        stands_for="" if arm is None else arm.stands_for,
        retention=100 * row.retention,
        decode=100 * row.measured["decode_ratio"],
        flops=100 * row.flops,
        answered=row.answered,
        errors=row.errors,
        score=_interval(row.score),
        categories={name: 100 * value for name, value in row.categories.items()},
        to_full=_interval(row.to_vanilla) if row.to_vanilla else None,
        to_random=_interval(row.to_random) if row.to_random and role == METHOD else None,
        to_uniform=_interval(to_uniform) if to_uniform else None,
    )


def _interval(found: Estimate | Paired) -> Interval:
    low, high = found.interval or (None, None)
    claimed = found.sign if isinstance(found, Paired) else None
    if low is None or high is None:
        return Interval(100 * found.value, claimed=claimed)
    return Interval(100 * found.value, 100 * low, 100 * high, claimed)


def _to_uniform(block: Block) -> dict[str, Paired]:
    """Differences from `uniform` at the same tokens, corrected for their number."""
    uniform = {
        row.cell.tokens: row.cell.slug for row in block.results.rows if row.cell.method == "uniform"
    }
    scores = block.results.scores
    slugs = list(dict.fromkeys(cell.slug for cell in block.cells))
    tokens = {cell.slug: cell.tokens for cell in block.cells}
    found = holm([scores.paired(slug, uniform.get(tokens[slug])) for slug in slugs])
    return {slug: one for slug, one in zip(slugs, found, strict=True) if one is not None}


def claims_of(table: Table, blocks: Sequence[Block]) -> list[Told]:
    """What the samples say of each claim that the file asks of the analogue.

    ConfigError for a claim whose two sides are not both on the same samples here.
    """
    return [
        _told(claim, column, better, worse, blocks)
        for claim in table.claims
        if claim.analogue
        for column, better, worse in _asked(table, claim, blocks)
    ]


def _asked(table: Table, claim: Claim, blocks: Sequence[Block]) -> Iterator[tuple[str, str, str]]:
    """Column and the labels of both sides: as written, or of methods that stand for its rows."""
    column = str(claim.analogue.get("column", SCORE))
    better, worse = (claim.analogue.get(side) for side in ("better", "worse"))
    if better is not None and worse is not None:
        yield column, str(better), str(worse)
        return
    standing = {arm.stands_for: arm.label for block in blocks for arm in block.arms}
    standing |= {row.label: FULL_MODEL for row in table.rows if row.matches(table.baseline)}
    found = [
        (standing[one.label], standing[other.label])
        for one, other in pairs(table, claim)
        if one.label in standing and other.label in standing
    ]
    if not found:
        raise ConfigError(
            f"the claim {claim.says!r} has no rows on the analogue: write better: and worse: with "
            "labels of its methods below its analogue:, or stands_for: with a row's name"
        )
    yield from ((column, *labels) for labels in found)


def _told(claim: Claim, column: str, better: str, worse: str, blocks: Sequence[Block]) -> Told:
    for block in blocks:
        first, second = block.slug(better), block.slug(worse)
        if first is not None and second is not None:
            found = _scores(block, column).paired(first, second)
            difference = None if found is None else _interval(found)
            return Told(claim.says, column, better, worse, difference, _word(difference))
    raise ConfigError(
        f"the claim {claim.says!r} compares {better} with {worse}, which are not both methods of "
        "the analogue with the same frames"
    )


def _scores(block: Block, column: str) -> Scores:
    """Of all samples, or of one category. ConfigError for a category that there is not."""
    if column == SCORE:
        return block.results.scores
    first = block.results.vanilla.cell.slug
    chosen = {
        slug: [answer for answer in answers if answer.category == column]
        for slug, answers in block.answers.items()
    }
    if not chosen[first]:
        known = ", ".join([SCORE, *block.results.categories])
        raise ConfigError(f"analogue: column: {column} is unknown, write one of {known}")
    return Scores(chosen, first, block.results.scores.resamples, 0)


def _word(difference: Interval | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return UNDECIDED
    return HOLDS if difference.low > 0 else FAILS if difference.high < 0 else UNDECIDED
