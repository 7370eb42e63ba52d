"""What a study found, in sentences that its numbers write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tokenprune.statistics import FEW, Estimate
from tokenprune.study.plan import Cell
from tokenprune.study.results import CONTROL, Results, Row

Compared = Callable[[Row], Estimate | None]


def findings(results: Results) -> Iterator[str]:
    """One sentence per paragraph; also where a method does not beat the control."""
    yield from _budgets(results)
    yield from _against_control(results)
    yield from _against_vanilla(results)
    yield from _allocation(results)
    yield from _keyframes(results)
    yield from _caution(results)


def _budgets(results: Results) -> Iterator[str]:
    macro = results.vanilla.macro
    yield f"The full model scores {100 * macro.value:.1f} % [{100 * macro.low:.1f}, {100 * macro.high:.1f}]."
    off = [
        f"{_name(row)} at {at(results, row.cell.tokens)} ({row.measured:.1%})" for row in results.rows if row.off_budget
    ]
    yield (
        f"Measured retention is off the budget by more than half a point for: {_listed(off)}."
        if off
        else ("Every cell kept its budget to within half a percentage point, as measured.")
    )
    for tokens in results.budgets:
        if cannot := [cell for cell in results.unreachable if cell.tokens == tokens]:
            yield f"{at(results, tokens)} is out of reach of {_grouped(cannot)}."
        if failed := [cell for cell in results.failed if cell.tokens == tokens]:
            yield f"At {at(results, tokens)} no sample was answered by {_grouped(failed)}."
    if short := [row for row in results.rows if row.errors]:
        cells = _listed(f"{_name(row)} at {at(results, row.cell.tokens)} ({row.errors})" for row in short)
        yield f"Samples that could not be evaluated and are left out of that cell's numbers: {cells}."


def _against_control(results: Results) -> Iterator[str]:
    for tokens in results.budgets:
        rows = [row for row in results.at(tokens) if row.to_control is not None]
        if rows:
            yield f"At {at(results, tokens)}: {_sorted_out(rows, lambda row: row.to_control, f'`{CONTROL}`')}."


def _against_vanilla(results: Results) -> Iterator[str]:
    for tokens in results.budgets:
        if rows := list(results.at(tokens)):
            yield f"At {at(results, tokens)}: {_sorted_out(rows, lambda row: row.to_vanilla, 'the full model')}."


def _sorted_out(rows: Iterable[Row], compared: Compared, whom: str) -> str:
    """Methods above, not distinguishable from and below `whom`."""
    groups: dict[int, list[Row]] = {1: [], 0: [], -1: []}
    for row in rows:
        if (found := compared(row)) is not None:
            groups[found.sign].append(row)
    above, level, below = (_grouped(row.cell for row in groups[sign]) for sign in (1, 0, -1))
    return f"above {whom}: {above}; not distinguishable from {whom}: {level}; below {whom}: {below}"


def _grouped(cells: Iterable[Cell]) -> str:
    """Cells of one budget by method, with their guides: `random` (alone, self)."""
    guides: dict[str, list[str]] = {}
    for cell in cells:
        guides.setdefault(cell.method, []).append(cell.guide or "alone")
    return _listed(f"`{method}` ({', '.join(found)})" for method, found in guides.items())


def _allocation(results: Results) -> Iterator[str]:
    for guide in dict.fromkeys(row.cell.guide for row in results.rows if row.to_host is not None):
        rows = [row for row in results.rows if row.cell.guide == guide and row.to_host is not None]
        signs = [row.to_host.sign for row in rows if row.to_host]
        yield (
            f"`+{rows[0].cell.allocator}` guided by {guide}, against the same method alone: better in {signs.count(1)} "
            f"of {len(rows)} cells, not distinguishable in {signs.count(0)}, worse in {signs.count(-1)}."
        )


def _keyframes(results: Results) -> Iterator[str]:
    for found in results.importance:
        verdict = {1: "better than", 0: "not distinguishable from", -1: "worse than"}[found.advantage.sign]
        rank = found.reciprocal_rank
        yield (
            f"The needle frame under the weights of guide {found.guide}: mean reciprocal rank {rank.value:.3f} "
            f"[{rank.low:.3f}, {rank.high:.3f}], {verdict} chance ({found.chance:.3f})."
        )


def _caution(results: Results) -> Iterator[str]:
    if not results.tells:
        yield (
            f"Samples in the smallest family: {results.fewest}. Below {FEW} it may show no spread by luck, so these "
            "intervals are too narrow and prove nothing."
        )
    compared = [e for row in results.rows for e in (row.to_vanilla, row.to_control, row.to_host) if e is not None]
    yield (
        f"These are {len(compared)} comparisons with 95 % intervals and no correction for their number: if nothing "
        f"differed, about {0.05 * len(compared):.0f} of them would still exclude 0."
    )


def separated(results: Results, tokens: int) -> Iterator[str]:
    """Which pairs of methods have intervals that do not overlap, as one line per better method."""
    rows = sorted(results.at(tokens), key=lambda row: -row.macro.value)
    for row in rows:
        if lower := [_name(other) for other in rows if row.macro.above(other.macro)]:
            yield f"{_name(row)} above {_listed(lower)}"


def at(results: Results, tokens: int) -> str:
    """A budget in words: `25.0 %`."""
    return f"{100 * tokens / results.vanilla.cell.extent.cells:.1f} %"


def _name(row: Row) -> str:
    return f"`{row.cell.label}`"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
