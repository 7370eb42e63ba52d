"""What is said below a table: effects, orders, ratios of speed, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenprune.reproduce import wording
from tokenprune.reproduce.cell import Cell
from tokenprune.reproduce.claims import Verdict, on_ours, on_printed
from tokenprune.reproduce.noise import Noise
from tokenprune.reproduce.orders import orders
from tokenprune.reproduce.pages.ranks import listed
from tokenprune.reproduce.pages.views import AnalogueView, Lines
from tokenprune.reproduce.parts import Claim
from tokenprune.reproduce.schema import Table
from tokenprune.reproduce.verdict import printed_effect

NOTHING = "-"
_NOISE = {None: "", True: ", above the noise", False: ", within the noise"}


def effects(table: Table, made: Sequence[Cell]) -> Lines | None:
    """Every method beside the full model: printed minus printed, ours minus ours."""
    rows = []
    for cell in made:
        found = cell.found
        if found is None or found.effect is None or cell.column.from_ == "speed":
            continue
        theirs = printed_effect(table, cell)
        digits = cell.column.digits
        rows.append(
            [
                cell.row.label,
                wording.title(cell),
                NOTHING if theirs is None else f"{theirs:+.{digits}f}",
                f"{found.effect:+.{digits}f}",
                wording.interval(found.effect_low, found.effect_high, cell.column) or NOTHING,
                f"{found.n:,} of {found.of:,}",
            ]
        )
    heads = ["row", "column", "printed effect", "our effect", "95 %", "samples"]
    return Lines(heads, rows) if rows else None


def ordered(table: Table, made: Sequence[Cell], n: Mapping[str, int]) -> list[str]:
    """Of every column of scores: how many printed differences mean anything, and whether our
    methods stand in the printed order.
    """
    found = []
    for one in orders(table, made, dict(n), Noise()):
        label = table.columns[one.column].label or one.column
        parts = []
        if one.pairs and n.get(one.column):
            parts.append(
                f"{one.clear} of {one.pairs} printed differences are larger than the noise of "
                f"{n[one.column]:,} answers"
            )
        if one.tau is not None:
            parts.append(
                f"Kendall's tau of {one.methods} rows, ours against printed: {one.tau:.2f}"
            )
        if parts:
            found.append(f"{label}: {'; '.join(parts)}.")
    return found


def claims(
    table: Table, made: Sequence[Cell], n: Mapping[str, int], analogue: AnalogueView | None
) -> Lines | None:
    """What the authors say, or a fair reading asks, decided on three kinds of figures."""
    if not table.claims:
        return None
    by_place = listed(made)
    rows = []
    for claim in table.claims:
        printed = on_printed(table, claim, n.get(claim.column), Noise())
        mine = on_ours(table, claim, by_place)
        rows.append(
            [
                claim.says,
                _printed(table, claim, printed),
                _ours(claim, mine),
                _analogue(claim, analogue),
                "yes" if claim.ours else "about the authors' machine or training",
            ]
        )
    heads = ["claim", "on the printed figures", "on ours", "on the analogue", "ours to test"]
    return Lines(heads, rows)


def _printed(table: Table, claim: Claim, verdict: Verdict) -> str:
    if verdict.by is None:
        return f"{verdict.word}: the figures are not printed"
    by = _by(claim, verdict.by)
    several = f", {verdict.held} of {verdict.of}" if verdict.of > 1 else ""
    label = table.columns[claim.column].label or claim.column
    return f"{verdict.word}: {by} on {label}{several}{_NOISE[verdict.clear]}"


def _ours(claim: Claim, verdict: Verdict) -> str:
    return NOTHING if verdict.by is None else f"{verdict.word}: {_by(claim, verdict.by)}"


def _by(claim: Claim, by: float) -> str:
    return f"{by:.2f}x" if claim.ratio else f"{by:+.3g}"


def _analogue(claim: Claim, analogue: AnalogueView | None) -> str:
    if not claim.analogue:
        return NOTHING
    if analogue is None:
        return "not run"
    return dict(analogue.claims).get(claim.says, NOTHING)
