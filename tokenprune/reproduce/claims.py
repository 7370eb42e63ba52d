"""What the authors say of a table, decided on the printed figures, on ours and on the analogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenprune.errors import ConfigError
from tokenprune.reproduce.cell import Cell, Key
from tokenprune.reproduce.noise import Noise, spread
from tokenprune.reproduce.parts import FAILS, HOLDS, UNDECIDED, Claim, Selector
from tokenprune.reproduce.schema import Row, Table


@dataclass(frozen=True)
class Verdict:
    """What figures say of a claim.

    Args:
        word: holds, does not hold, cannot tell
        by: the smallest lead of better over worse, or its ratio
        held, of: comparisons that hold, and all of them
        clear: whether every lead is larger than the column's noise; None where that is unknown
    """

    word: str
    by: float | None = None
    held: int = 0
    of: int = 0
    clear: bool | None = None


def pairs(table: Table, claim: Claim) -> list[tuple[Row, Row]]:
    """Rows to compare. ConfigError where the selectors match no rows, or rows that do not pair."""
    better, worse = (_rows(table, claim, each) for each in (claim.better, claim.worse))
    if len(better) == 1:
        return [(better[0], other) for other in worse]
    if len(worse) == 1:
        return [(one, worse[0]) for one in better]
    if len(better) != len(worse):
        raise ConfigError(
            f"the claim {claim.says!r} compares {len(better)} rows with {len(worse)}: select as "
            "many of both, or one"
        )
    return list(zip(better, worse, strict=True))


def _rows(table: Table, claim: Claim, wanted: Selector) -> list[Row]:
    found = [row for row in table.rows if row.matches(wanted)]
    if not found:
        raise ConfigError(f"the claim {claim.says!r} selects no row with {dict(wanted)}")
    if claim.column not in table.columns:
        raise ConfigError(f"the claim {claim.says!r} is about no column: {claim.column}")
    return found


def on_printed(table: Table, claim: Claim, n: int | None, noise: Noise) -> Verdict:
    """`n`: samples behind a score, if it is one and they are known."""
    figures = [
        (table.printed(one, claim.column), table.printed(other, claim.column))
        for one, other in pairs(table, claim)
    ]
    known = [(one, other) for one, other in figures if one is not None and other is not None]
    if not known:
        return Verdict(UNDECIDED)
    return _decided(table, claim, known, n, noise)


def _decided(
    table: Table,
    claim: Claim,
    known: Sequence[tuple[float | int, float | int]],
    n: int | None,
    noise: Noise,
) -> Verdict:
    leads = [_lead(table, claim, one, other) for one, other in known]
    held = [lead >= claim.at_least if claim.at_least else lead > 0 for lead in leads]
    column = table.columns[claim.column]
    clear = None
    if n and column.from_ in ("score", "judged") and not claim.ratio:
        least = spread(column, noise.compressed, n)
        clear = all(abs(lead) > least for lead in leads)
    return Verdict(HOLDS if all(held) else FAILS, min(leads), sum(held), len(held), clear)


def _lead(table: Table, claim: Claim, better: float | int, worse: float | int) -> float:
    """How far `better` is ahead, as a difference or a ratio, rounding errors taken away."""
    lower = table.columns[claim.column].lower
    ahead, behind = (worse, better) if lower else (better, worse)
    return float(round(ahead / behind if claim.ratio else ahead - behind, 9))


def on_ours(table: Table, claim: Claim, made: Mapping[Key, Cell]) -> Verdict:
    """By the intervals of the effects: two rows that both were compared with the same full model;
    of speeds, by the fastest and slowest turns.

    Cannot tell where an interval of the difference of effects holds zero, or figures are missing.
    """
    words: list[str] = []
    leads: list[float] = []
    for one, other in pairs(table, claim):
        first, second = (made.get((row.label, claim.column)) for row in (one, other))
        ahead, behind = _own(first), _own(second)
        if first is None or second is None or ahead is None or behind is None:
            return Verdict(UNDECIDED)
        lead = _lead(table, claim, ahead, behind)
        leads.append(lead)
        words.append(
            _timed(table, claim, first, second)
            if first.column.from_ == "speed"
            else _told(lead - claim.at_least, first, second)
        )
    held = words.count(HOLDS)
    word = HOLDS if held == len(words) else FAILS if FAILS in words else UNDECIDED
    return Verdict(word, min(leads), held, len(words))


def _own(cell: Cell | None) -> float | None:
    """Our own figure; of a derived cell what follows from ours, not from printed ones."""
    if cell is None or cell.column.from_ == "derived":
        return None if cell is None else cell.mine
    return cell.ours[0] if cell.ours else None


def _timed(table: Table, claim: Claim, one: Cell, other: Cell) -> str:
    """Whether every turn of the one leads every turn of the other so far, or none does."""
    leads = [_lead(table, claim, ahead, behind) for ahead in _ends(one) for behind in _ends(other)]
    enough = [lead >= claim.at_least if claim.at_least else lead > 0 for lead in leads]
    return HOLDS if all(enough) else UNDECIDED if any(enough) else FAILS


def _ends(cell: Cell) -> tuple[float, ...]:
    """The lowest and the highest that was measured."""
    mine = cell.found
    if mine is None or mine.low is None or mine.high is None:
        return cell.ours
    return mine.low, mine.high


def _told(lead: float, one: Cell, other: Cell) -> str:
    widths = [_width(cell) for cell in (one, other)]
    if any(width is None for width in widths):
        return UNDECIDED
    margin = sum(width**2 for width in widths if width is not None) ** 0.5
    return HOLDS if lead > margin else FAILS if lead < -margin else UNDECIDED


def _width(cell: Cell) -> float | None:
    """Half of the interval of a cell's effect; nothing of the full model's own cell, and of what
    needs no run.
    """
    if cell.column.from_ == "analytic":
        return 0.0
    mine = cell.found
    if mine is None:
        return None
    if mine.effect_low is None or mine.effect_high is None:
        return 0.0 if mine.full and mine.effect is None else None
    return (mine.effect_high - mine.effect_low) / 2
