"""What a study found, in sentences that its numbers write; also where no method is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tokenprune.results.statistics import LEVEL, Estimate, Paired
from tokenprune.results.wording import UNTOLD
from tokenprune.study import phrases
from tokenprune.study.results import CONTROL, TOLERANCE, Results, Row

Compared = Callable[[Row], Paired | None]


def findings(results: Results) -> Iterator[str]:
    """A few sentences at a time."""
    yield from _compared(results, f"`{CONTROL}` at the same budget", lambda row: row.to_random)
    yield from _compared(results, "the full model", lambda row: row.to_vanilla)
    yield from _allocation(results)
    yield from _keyframes(results)
    yield from budgets(results)
    yield from _caution(results)


def _compared(results: Results, whom: str, compared: Compared) -> Iterator[str]:
    """Who is above and below `whom`, and where."""
    rows = [row for row in results.rows if compared(row) is not None]
    if not rows:
        return
    if all(_sign(compared, row) is None for row in rows):
        yield f"The samples do not tell any method from {whom}."
        return
    above, below = (_where(rows, compared, sign) for sign in (1, -1))
    rest = sum(_sign(compared, row) in (0, None) for row in rows)
    yield (f"Above {whom}: {above}. Below: {below}. Not told apart: {rest} of {len(rows)} cells.")


def _sign(compared: Compared, row: Row) -> int | None:
    found = compared(row)
    return None if found is None else found.sign


def _where(rows: Sequence[Row], compared: Compared, sign: int) -> str:
    """The cells of `rows` with such a difference."""
    chosen = [row.cell for row in rows if _sign(compared, row) == sign]
    return phrases.cells(chosen, [row.cell for row in rows])


def _allocation(results: Results) -> Iterator[str]:
    """Whether the allocator helps, by guide."""
    hosted = [row for row in results.rows if row.to_host is not None]
    if not hosted:
        return
    what = f"`+{hosted[0].cell.allocator}`, compared with the same method alone"
    if all(row.to_host and row.to_host.sign is None for row in hosted):
        yield f"{what}: the samples do not tell."
        return
    helps, hurts = (_where(hosted, lambda row: row.to_host, sign) for sign in (1, -1))
    rest = sum(row.to_host is not None and not row.to_host.sign for row in hosted)
    yield f"{what}, helps: {helps}. Hurts: {hurts}. Not told apart: {rest} of {len(hosted)} cells."


_THAN = {
    1: "better than",
    0: "not told from",
    -1: "worse than",
    None: "without an interval to tell it from",
}


def _keyframes(results: Results) -> Iterator[str]:
    """Whether guides find the frame that matters."""
    for found in results.importance:
        yield (
            f"The frame with the needle, ranked by the weights of guide {found.guide}: mean "
            f"reciprocal rank {rank(found.reciprocal_rank)}, {_THAN[found.advantage.sign]} chance "
            f"({found.chance:.3f}); first in {phrases.percents(found.first)} % of {found.samples} "
            "samples."
        )


def budgets(results: Results) -> Iterator[str]:
    """Which budgets were not kept, could not be, or have no answers."""
    off = [row for row in results.rows if row.off_budget]
    half = f"{100 * TOLERANCE:g} points"
    if off:
        cells = "; ".join(
            f"{phrases.name(row.cell)} ({phrases.percents(row.retention)} %)" for row in off
        )
        yield f"Measured tokens are more than {half} off the budget of: {cells}."
    else:
        yield f"Every cell kept its budget to within {half}, as measured."
    yield from out_of_reach(results)
    for cell in results.failed:
        yield f"{phrases.name(cell)} at {phrases.budgets([cell])}: {cell.reason}."
    short = [row for row in results.rows if row.errors]
    if short:
        counts = (
            f"{phrases.name(row.cell)} at {phrases.budgets([row.cell])} ({row.errors})"
            for row in short
        )
        yield f"Samples without an answer, left out of that cell's numbers: {'; '.join(counts)}."


def out_of_reach(results: Results) -> Iterator[str]:
    """Budgets that a method cannot have, once for all its forms, and why."""
    for own in phrases.by_method(results.unreachable).values():
        first = own[0]
        # what a strategy says begins with its range and the budget that was asked for
        reason = first.reason.partition(": ")[2] or first.reason
        yield f"`{first.method}` cannot keep as little as {phrases.budgets(own)}: {reason}."


def _caution(results: Results) -> Iterator[str]:
    """What the words above may claim."""
    if not results.told:
        yield f"{fewest(results)}: nothing is claimed above, below, better or worse."
        return
    if results.too_many:
        yield too_many(results)
    number = len(results.importance)
    ranks = f", and {number} of guides to chance" if number else ""
    yield (
        "Above, below, helps, hurts and stars are claims after Holm's correction (1979) for the "
        f"number of comparisons, at {100 * LEVEL:g} % for each set: {sets(results)}{ranks}. "
        "Intervals are not corrected: of twenty that make no difference, one excludes 0."
    )


def sets(results: Results) -> str:
    """The corrected sets of comparisons, with the number in each."""
    named = {
        "to_vanilla": "to the full model",
        "to_random": f"to `{CONTROL}`",
        "to_host": "to the same method alone",
    }
    tested = {name: results.tested(name) for name in named}
    return ", ".join(f"{number} {named[name]}" for name, number in tested.items() if number)


def fewest(results: Results) -> str:
    """Why there are no intervals."""
    return f"Independent samples in the smallest category: {results.fewest}; {UNTOLD}"


def too_many(results: Results) -> str:
    """Why nothing is claimed among very many comparisons."""
    return (
        f"{results.too_many} comparisons are more than {results.scores.resamples:,} resamples "
        "can claim any of after Holm's correction: compare fewer, or raise resamples= in a study."
    )


def rank(found: Estimate) -> str:
    """A mean reciprocal rank: `0.400 [0.289, 0.516]`, or `0.400`."""
    if found.interval is None:
        return f"{found.value:.3f}"
    low, high = found.interval
    return f"{found.value:.3f} [{low:.3f}, {high:.3f}]"
