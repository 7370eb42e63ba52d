"""What a study found, in sentences that its numbers write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tokenprune.results.statistics import LEVEL, Estimate, Paired
from tokenprune.results.wording import UNTOLD, between, percent
from tokenprune.study.plan import Cell
from tokenprune.study.results import CONTROL, Results, Row

Compared = Callable[[Row], Paired | None]


def findings(results: Results) -> Iterator[str]:
    """One sentence per paragraph; also where a method does not beat the control."""
    yield from _budgets(results)
    yield from _against(results, f"`{CONTROL}`", lambda row: row.to_random)
    yield from _against(results, "the full model", lambda row: row.to_vanilla)
    yield from _allocation(results)
    yield from _keyframes(results)
    yield from _caution(results)


def _budgets(results: Results) -> Iterator[str]:
    """Which budgets were kept, and by whom they could not be."""
    full = results.vanilla.score
    yield f"The full model scores {percent(full.value)} % {between(full.interval)}".rstrip() + "."
    off = [
        f"{_where(results, row)} ({row.retention:.1%})" for row in results.rows if row.off_budget
    ]
    if off:
        yield f"Measured retention is off the budget by more than half a point for: {_listed(off)}."
    else:
        yield "Every cell kept its budget to within half a percentage point, as measured."
    for tokens in results.budgets:
        cannot = [cell for cell in results.unreachable if cell.tokens == tokens]
        if cannot:
            yield f"{at(results, tokens)} is out of reach of {_grouped(cannot)}."
        failed = [cell for cell in results.failed if cell.tokens == tokens]
        if failed:
            yield f"At {at(results, tokens)} no sample was answered by {_grouped(failed)}."
    short = [f"{_where(results, row)} ({row.errors})" for row in results.rows if row.errors]
    if short:
        yield (
            "Samples that could not be evaluated and are left out of that cell's numbers: "
            f"{_listed(short)}."
        )


def _where(results: Results, row: Row) -> str:
    """A cell in words."""
    return f"`{row.cell.label}` at {at(results, row.cell.tokens)}"


def _against(results: Results, whom: str, compared: Compared) -> Iterator[str]:
    """At each budget, who is above and below `whom`."""
    for tokens in results.budgets:
        rows = [row for row in results.at(tokens) if compared(row) is not None]
        if rows:
            yield f"At {at(results, tokens)}: {_sorted_out(rows, compared, whom)}."


def _sorted_out(rows: Iterable[Row], compared: Compared, whom: str) -> str:
    """Methods above, not distinguishable from and below `whom`, and those without an interval."""
    groups: dict[int | None, list[Row]] = {1: [], 0: [], -1: [], None: []}
    for row in rows:
        if (found := compared(row)) is not None:
            groups[found.sign].append(row)
    above, level, below, untold = (_grouped(row.cell for row in groups[sign]) for sign in groups)
    if not (groups[1] or groups[0] or groups[-1]):
        return f"the samples do not tell any method from {whom}"
    told = f"above {whom}: {above}; not distinguishable from {whom}: {level}; below {whom}: {below}"
    return f"{told}; without an interval: {untold}" if groups[None] else told


def _grouped(cells: Iterable[Cell]) -> str:
    """Cells of one budget by method, with their guides: `random` (alone, self)."""
    guides: dict[str, list[str]] = {}
    for cell in cells:
        guides.setdefault(cell.method, []).append(cell.guide or "alone")
    return _listed(f"`{method}` ({', '.join(found)})" for method, found in guides.items())


def _allocation(results: Results) -> Iterator[str]:
    """Whether the allocator helps, by guide."""
    hosted = [row for row in results.rows if row.to_host is not None]
    for guide in dict.fromkeys(row.cell.guide for row in hosted):
        rows = [row for row in hosted if row.cell.guide == guide]
        signs = [row.to_host.sign for row in rows if row.to_host]
        against = f"`+{rows[0].cell.allocator}` guided by {guide}, against the same method alone"
        if set(signs) == {None}:
            yield f"{against}: the samples do not tell."
            continue
        untold = f", without an interval in {signs.count(None)}" if None in signs else ""
        yield (
            f"{against}: better in {signs.count(1)} of {len(rows)} cells, "
            f"not distinguishable in {signs.count(0)}, worse in {signs.count(-1)}{untold}."
        )


_THAN = {
    1: "better than",
    0: "not distinguishable from",
    -1: "worse than",
    None: "not told from",
}


def _keyframes(results: Results) -> Iterator[str]:
    for found in results.importance:
        yield (
            f"The needle frame under the weights of guide {found.guide}: mean reciprocal rank "
            f"{rank(found.reciprocal_rank)}, {_THAN[found.advantage.sign]} chance "
            f"({found.chance:.3f})."
        )


def _caution(results: Results) -> Iterator[str]:
    if not results.told:
        yield f"{fewest(results)}: nothing is claimed above, below, better or worse."
        return
    if results.out_of_reach:
        yield out_of_reach(results)
    number = len(results.importance)
    guides = f"the ranks of guides to chance ({number}), " if number else ""
    yield (
        "Above, below, better, worse and stars are claims after Holm's correction (1979), "
        f"at {100 * LEVEL:g} % for each of these sets of comparisons: {sets(results)}, "
        f"{guides}the pairs of methods at one budget. "
        "Intervals are not corrected: of twenty that make no difference, one excludes 0."
    )


def sets(results: Results) -> str:
    """The corrected sets of a table, with the number of comparisons in each."""
    named = {
        "to_vanilla": "to the full model",
        "to_random": f"to `{CONTROL}`",
        "to_host": "to the same method alone",
    }
    tested = {name: results.tested(name) for name in named}
    return ", ".join(f"{named[name]} ({number})" for name, number in tested.items() if number)


def fewest(results: Results) -> str:
    """Why there are no intervals."""
    return f"Independent samples in the smallest category: {results.fewest}; {UNTOLD}"


def out_of_reach(results: Results) -> str:
    """Why nothing is claimed among very many comparisons."""
    return (
        f"{results.out_of_reach} comparisons are more than {results.scores.resamples:,} resamples "
        "can claim any of after Holm's correction: compare fewer, or raise resamples= in a study."
    )


def rank(found: Estimate) -> str:
    """A mean reciprocal rank: `0.400 [0.289, 0.516]`, or `0.400`."""
    if found.interval is None:
        return f"{found.value:.3f}"
    low, high = found.interval
    return f"{found.value:.3f} [{low:.3f}, {high:.3f}]"


def separated(results: Results, tokens: int) -> Iterator[str]:
    """Which methods are above which at one budget, as one line per better method."""
    worse: dict[str, list[str]] = {}
    pairs = list(results.better(tokens))
    for row, other in sorted(pairs, key=lambda pair: [-one.score.value for one in pair]):
        worse.setdefault(f"`{row.cell.label}`", []).append(f"`{other.cell.label}`")
    return (f"{name} above {_listed(others)}" for name, others in worse.items())


def at(results: Results, tokens: int) -> str:
    """A budget in words: `25.0 %`."""
    return f"{100 * tokens / results.cells:.1f} %"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
