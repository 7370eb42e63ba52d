"""All cells of a table: what is printed, what is found here, and in one word how they compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenprune.errors import ConfigError
from tokenprune.reproduce import derived, formulas
from tokenprune.reproduce.cell import (
    EXACT,
    MEASURED,
    NOT_PRINTED,
    SHOWN,
    SLIP,
    STATUSES,
    WRONG,
    Cell,
    Found,
    Key,
)
from tokenprune.reproduce.derived import Input
from tokenprune.reproduce.formulas import Setting
from tokenprune.reproduce.models import models
from tokenprune.reproduce.noise import Noise
from tokenprune.reproduce.rounding import equal, follows, half_unit, seconds
from tokenprune.reproduce.schema import Row, Table
from tokenprune.reproduce.verdict import judged


def cells(
    table: Table, found: Mapping[Key, Found] | None = None, noise: Noise | None = None
) -> list[Cell]:
    """Row by row, in the order of columns. `found`: our figures of cells that need a run.

    Raises ConfigError where a formula lacks a setting: a defect of the file.
    """
    made = []
    for row in table.rows:
        for name, column in table.columns.items():
            printed = table.printed(row, name)
            if printed is None:
                made.append(Cell(row, name, column, None, NOT_PRINTED))
            elif column.from_ == "text":
                made.append(Cell(row, name, column, printed, SHOWN))
            elif column.from_ in MEASURED:
                made.append(judged(table, row, name, found or {}, noise or Noise()))
            else:
                made.append(_computed(table, row, name, found or {}))
    return made


def _computed(table: Table, row: Row, name: str, found: Mapping[Key, Found]) -> Cell:
    """An analytic or derived cell."""
    column, printed = table.columns[name], table.printed(row, name)
    try:
        if column.from_ == "analytic":
            ours = tuple(analytic(table, row, name))
            agrees = equal(printed, ours)
        else:
            readings = list(_derived(table, row, name))
            ours = tuple(one.value for one in readings)
            agrees = any(follows(printed, *one) for one in readings)
    except ConfigError as error:
        raise ConfigError(f"{table.title}, {row.label}, {name}: {error}") from None
    why = table.slips.get(name, {}).get(row.label, "")
    mine = _from_ours(table, row, name, found) if column.from_ == "derived" else None
    if not ours:
        return Cell(row, name, column, printed, SHOWN, why="its cells are not printed", mine=mine)
    status = EXACT if agrees else SLIP if why else WRONG
    return Cell(row, name, column, printed, status, ours, "" if agrees else why, mine=mine)


def _from_ours(table: Table, row: Row, name: str, found: Mapping[Key, Found]) -> float | None:
    """What a cell is on our figures; None where one that it needs is not here."""
    if (measured := found.get((row.label, name))) is not None:
        return measured.value
    column = table.columns[name]
    if column.from_ == "analytic":
        return analytic(table, row, name)[0]
    if column.from_ != "derived":
        return None
    formula, of, full = _recipe(table, row, name)
    own, other = (
        [_from_ours(table, one, each, found) for each in of] if one is not None else [None]
        for one in (row, full)
    )
    computed = all(table.columns[one].from_ == "analytic" for one in of)
    if None in own or None in other or computed:
        return None
    return formula([v for v in own if v is not None], [v for v in other if v is not None])


def analytic(table: Table, row: Row, name: str) -> list[float]:
    """The readings of an analytic column; where the row's `also:` has a `value` for it, that: what
    the authors call the row, where no formula says it.

    ConfigError for a formula that is not there.
    """
    column, given = table.columns[name], row.also.get(name, {})
    if "value" in given:
        return [float(given["value"])]
    formula = _named(formulas.FORMULAS, column.formula)
    return formula(setting(table, row, name))


def setting(table: Table, row: Row, name: str = "") -> Setting:
    """What formulas of a row may ask for."""
    values = {**table.defaults, **row.settings, **row.also.get(name, {})}
    known = models()
    by_name = {short: known.get(hub_id) for short, hub_id in table.models.items()}
    model, guide = values.get("model"), values.get("guide")
    unit = table.columns[name].unit if name else ""
    return Setting(values, by_name.get(str(model)), by_name.get(str(guide)), unit)


def _recipe(table: Table, row: Row, name: str) -> tuple[derived.Formula, list[str], Row | None]:
    """Of a derived cell: its formula, the columns that it is computed from, and the row of the full
    model where it needs one (None: the table has none), else its own.
    """
    column = table.columns[name]
    formula = _named(derived.FORMULAS, column.formula)
    of = row.also.get(name, {}).get("of", column.of)
    return formula, of, table.baseline_of(row) if formula in derived.NEEDS_FULL else row


def _derived(table: Table, row: Row, name: str) -> Iterator[derived.Derived]:
    """From the printed cells; and from ours where all of them are analytic."""
    formula, of, full = _recipe(table, row, name)
    if full is None:
        raise ConfigError("the table has no row of the full model (baseline:) for it")
    ways = [_printed_inputs(table, row, of), _printed_inputs(table, full, of)]
    if None not in ways:
        yield derived.derive(formula, *[way for way in ways if way is not None])
    if all(table.columns[each].from_ == "analytic" for each in of):
        own, other = ([Input(analytic(table, one, each)[0]) for each in of] for one in (row, full))
        yield derived.derive(formula, own, other)


def _printed_inputs(table: Table, row: Row, of: Sequence[str]) -> list[Input] | None:
    """None where one of them is not printed."""
    values = [table.printed(row, name) for name in of]
    if any(value is None for value in values):
        return None
    return [
        Input(seconds(value), 0.0 if isinstance(value, str) else half_unit(value))
        for value in values
    ]


def _named(known: Mapping[str, Any], name: str) -> Any:
    if name not in known:
        raise ConfigError(f"there is no formula {name!r}: write one of {', '.join(known)}")
    return known[name]


def counted(made: Sequence[Cell]) -> dict[str, int]:
    """How many cells have each status, in the order of STATUSES, without those that have none."""
    numbers = {status: sum(cell.status == status for cell in made) for status in STATUSES}
    return {status: number for status, number in numbers.items() if number}
