"""What a study found in three sentences, for who reads nothing else; its numbers write them."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.results.statistics import Paired
from tokenprune.results.wording import points, score
from tokenprune.study import phrases
from tokenprune.study.plan import Cell
from tokenprune.study.results import CONTROL, Results, Row

_LONGEST = 160  # signs of a list that a reader still takes in


def summary(results: Results) -> tuple[str, str, str]:
    """The full model and the control, the methods, the allocator."""
    return _cost(results), _methods(results), _allocator(results)


def _cost(results: Results) -> str:
    """What the full model scores, and what the control loses of it at each budget."""
    full = f"The full model scores {score(results.vanilla.score)} %"
    control = [row for row in results.rows[1:] if _is_control(row) and row.to_vanilla]
    if not control:
        return f"{full}."
    losses = [-row.to_vanilla.value for row in control if row.to_vanilla]
    told = [row.to_vanilla.sign for row in control if row.to_vanilla]
    where = phrases.budgets(row.cell for row in control)
    if min(losses) > 0:
        by = phrases.listed(f"{100 * loss:.1f}" for loss in losses)
        what = f"costs {by} points"
    else:
        what = f"changes that by {phrases.listed(points(-loss) for loss in losses)} points"
    doubt = _doubt([row.cell for row in control], told)
    return f"{full}; keeping only {where} of its visual tokens, at random, {what}{doubt}."


def _doubt(cells: Sequence[Cell], told: Sequence[int | None]) -> str:
    """Where the loss lies within its interval, or that no sample tells."""
    if set(told) == {None}:
        return " (the samples do not tell whether any)"
    unclear = [cell for cell, sign in zip(cells, told, strict=True) if not sign]
    return f" (not reliably at {phrases.budgets(unclear)})" if unclear else ""


def _is_control(row: Row) -> bool:
    return row.cell.method == CONTROL and row.cell.guide is None


def _methods(results: Results) -> str:
    """Which are better than the control; without one, which lose nothing."""
    rows = [row for row in results.rows if row.to_random is not None]
    if not rows:
        return _kept(results)
    signs = [row.to_random.sign for row in rows if row.to_random]
    if set(signs) == {None}:
        return f"The samples do not tell any method from `{CONTROL}`."
    worse = f"worse: {signs.count(-1) or 'none'} of {len(rows)} cells"
    better = [row for row, sign in zip(rows, signs, strict=True) if sign == 1]
    if not better:
        return f"No method is reliably better than `{CONTROL}` at any budget; {worse}."
    where = phrases.cells([row.cell for row in better], [row.cell for row in rows])
    if len(where) > _LONGEST:
        most = _most(better, [row.to_random for row in better])
        where = f"{len(better)} of {len(rows)} cells, most of all {most}"
    return f"Reliably better than `{CONTROL}`: {where}; {worse}."


def _kept(results: Results) -> str:
    """Which methods are not told from the full model, where there is no control."""
    rows = [row for row in results.rows if row.to_vanilla is not None]
    level = [row.cell for row in rows if row.to_vanilla and row.to_vanilla.sign in (0, 1)]
    if not level:
        return "No method is known to keep all of the full model's score."
    where = phrases.cells(level, [row.cell for row in rows])
    return f"Not reliably below the full model: {where}."


def _allocator(results: Results) -> str:
    """What sharing the budget out to frames adds to the same method; else who is ahead."""
    rows = [row for row in results.rows if row.to_host is not None]
    if not rows:
        return _ahead(results)
    what = f"`+{rows[0].cell.allocator}`, which shares the budget out to frames,"
    against = f"{len(rows)} comparisons with the same method alone"
    signs = [row.to_host.sign for row in rows if row.to_host]
    if set(signs) == {None}:
        return f"What {what} adds to a method the samples do not tell."
    changed = [clause for sign in (1, -1) if (clause := _changed(rows, sign))]
    if not changed:
        return f"{what} makes no reliable difference in {against}."
    hurts = "" if -1 in signs else ", and hurts in none"
    return f"{what} reliably {' and '.join(changed)} of {against}{hurts}."


def _changed(rows: Sequence[Row], sign: int) -> str:
    """`helps in 9 (most of all `dycoke+dytok` (self) at 25 %: +7.9 points)`, or nothing."""
    found = [row for row in rows if row.to_host and row.to_host.sign == sign]
    if not found:
        return ""
    most = _most(found, [row.to_host for row in found])
    return f"{'helps' if sign > 0 else 'hurts'} in {len(found)} (most of all {most})"


def _most(rows: Sequence[Row], compared: Sequence[Paired | None]) -> str:
    """The largest of some differences: `fastv` at 25 %: +9.4 points."""
    known = [(abs(one.value), -place) for place, one in enumerate(compared) if one is not None]
    place = -max(known)[1]
    row, found = rows[place], compared[place]
    assert found is not None
    return (
        f"{phrases.name(row.cell)} at {phrases.budgets([row.cell])}: {points(found.value)} points"
    )


def _ahead(results: Results) -> str:
    """The highest score at the smallest budget that every method reaches."""
    tokens = results.common
    if tokens is None:
        return "No budget is reached by every method."
    best = max(results.at(tokens), key=lambda row: row.score.value)
    where = phrases.budgets([best.cell])
    return (
        f"At {where}, the smallest budget that every method reaches, "
        f"{phrases.name(best.cell)} scores most: {score(best.score)} %."
    )
