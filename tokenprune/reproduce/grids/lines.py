"""The lines of an analogue's grid, from a study's results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenprune.errors import ConfigError
from tokenprune.reproduce.grids.arms import Arm, ArmCell
from tokenprune.reproduce.grids.grid import CONTROL, FULL, METHOD, Interval, Line
from tokenprune.results.answer import Answer
from tokenprune.results.columns import AVERAGES, named
from tokenprune.results.statistics import Estimate, Paired, holm
from tokenprune.study.results import Results, Row
from tokenprune.study.scores import Answers

CONTROLS = ("random", "uniform")
FULL_MODEL = "full model"
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
        score=interval(row.score),
        categories={name: 100 * value for name, value in row.categories.items()},
        to_full=interval(row.to_vanilla) if row.to_vanilla else None,
        to_random=interval(row.to_random) if row.to_random and role == METHOD else None,
        to_uniform=interval(to_uniform) if to_uniform else None,
    )


def interval(found: Estimate | Paired) -> Interval:
    """In % or points."""
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
