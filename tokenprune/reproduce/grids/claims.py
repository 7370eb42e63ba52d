"""What an analogue's samples say of a table's claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import hypot
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.reproduce.claims import pairs
from tokenprune.reproduce.grids.arms import Arm
from tokenprune.reproduce.grids.grid import Interval, Told
from tokenprune.reproduce.grids.lines import FULL_MODEL, Block, interval
from tokenprune.reproduce.parts import FAILS, HOLDS, UNDECIDED, Claim
from tokenprune.reproduce.schema import Table
from tokenprune.study.scores import Scores

SCORE = "score"  # the column of a claim that is about the mean over categories


def claims_of(table: Table, blocks: Sequence[Block]) -> list[Told]:
    """What the samples say of each claim that the file asks of the analogue.

    ConfigError for a claim whose two sides are not both here.
    """
    return [
        _told(claim, better, worse, blocks)
        for claim in table.claims
        if claim.analogue
        for better, worse in _sides(table, claim, blocks)
    ]


def _sides(table: Table, claim: Claim, blocks: Sequence[Block]) -> Iterator[tuple[str, str]]:
    """Labels of both: as the claim's `analogue:` has them, else of methods that stand for its rows.

    What it has is a label, or a method with all its points, compared where they are the same.
    """
    arms = [arm for block in blocks for arm in block.arms]
    if {"better", "worse"} <= set(claim.analogue):
        better, worse = (_points(claim, side, arms) for side in ("better", "worse"))
        alone = len(better) == 1 or len(worse) == 1
        found = [
            (one, other)
            for one, at in better.items()
            for other, place in worse.items()
            if alone or at == place
        ]
    else:
        standing = {arm.stands_for: arm.label for arm in arms}
        standing |= {row.label: FULL_MODEL for row in table.rows if row.matches(table.baseline)}
        found = [
            (standing[one.label], standing[other.label])
            for one, other in pairs(table, claim)
            if one.label in standing and other.label in standing
        ]
    if not found:
        raise ConfigError(
            f"the claim {claim.says!r} has nothing to compare on the analogue: write better: and "
            "worse: with labels of its methods, or stands_for: with a row's name at a method"
        )
    yield from found


def _points(claim: Claim, side: str, arms: Sequence[Arm]) -> dict[str, Any]:
    """Where the arms that are meant stand, by label."""
    name = str(claim.analogue[side])
    if name == FULL_MODEL:
        return {name: {}}
    found = {arm.label: arm.at for arm in arms if arm.label == name}
    found = found or {arm.label: arm.at for arm in arms if arm.method == name}
    if not found:
        known = "; ".join([FULL_MODEL, *(arm.label for arm in arms)])
        raise ConfigError(f"the claim {claim.says!r}: {side}: {name} is none of {known}")
    return found


def _told(claim: Claim, better: str, worse: str, blocks: Sequence[Block]) -> Told:
    column = str(claim.analogue.get("column", SCORE))
    found = _difference(column, better, worse, blocks)
    return Told(claim.says, column, better, worse, found, _word(found, claim.at_least))


def _difference(column: str, better: str, worse: str, blocks: Sequence[Block]) -> Interval | None:
    """Paired by sample; of methods on other samples, the difference of what each is apart from the
    full model on its own.
    """
    for block in blocks:
        first, second = block.slug(better), block.slug(worse)
        if first is not None and second is not None:
            paired = _scores(block, column).paired(first, second)
            return None if paired is None else interval(paired)
    sides = [_effect(column, label, blocks) for label in (better, worse)]
    (one, width), (other, margin) = sides
    if width is None or margin is None:
        return Interval(one - other)
    half = hypot(width, margin)
    return Interval(one - other, one - other - half, one - other + half)


def _effect(column: str, label: str, blocks: Sequence[Block]) -> tuple[float, float | None]:
    """A method less the full model, and half of that interval's width."""
    for block in blocks:
        if (slug := block.slug(label)) is not None:
            full = block.results.vanilla.cell.slug
            paired = _scores(block, column).paired(slug, full)
            found = Interval(0.0) if paired is None else interval(paired)
            if found.low is None or found.high is None:
                return found.value, None
            return found.value, (found.high - found.low) / 2
    raise ConfigError(f"analogue: no method is called {label}")


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


def _word(difference: Interval | None, at_least: float) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return UNDECIDED
    if difference.low > at_least:
        return HOLDS
    return FAILS if difference.high < at_least else UNDECIDED
