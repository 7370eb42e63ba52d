"""The plots of the gallery, from the tables of results: scores over what is kept."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import gallery_inside as inside
from gallery_measured import HOST, NOTE

from tokenprune import registry
from tokenprune.pictures.beside import beside
from tokenprune.pictures.charts import Curve, Point
from tokenprune.pictures.drawing import Drawing
from tokenprune.strategy import Allocator

RESULTS = Path(__file__).resolve().parent / "results"
CONTROL, FULL = "random", "vanilla"
SELF = "self"  # the model is its own guide
Row = Mapping[str, str]


@cache
def rows(table: str) -> tuple[Row, ...]:
    """The cells of a study that have a score."""
    with (RESULTS / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(row for row in csv.DictReader(file) if row["status"] == "ok")


def table_of(name: str) -> str:
    """Where a strategy's scores stand: all methods alone, or, of an allocator, with it."""
    if inside.inside(name):
        return "tower"
    return "tinyvqa" if issubclass(registry.get(name), Allocator) else "methods"


def cells(table: str, method: str, guide: str = "") -> list[Row]:
    """Those of a method, from the largest budget down."""
    found = [row for row in rows(table) if (row["method"], row["guide"]) == (method, guide)]
    return sorted(found, key=lambda row: -float(row["budget"]))


def cells_of(name: str) -> list[Row]:
    """Those of a strategy at its budgets; an allocator's are its host's."""
    if inside.inside(name):
        return []
    table = table_of(name)
    return cells(table, name) if table == "methods" else cells(table, HOST, SELF)


def has_scores(name: str) -> bool:
    """Whether a study has it."""
    return inside.inside(name) or bool(cells_of(name))


def point(row: Row) -> Point:
    """In percent, over what was kept as it was measured, mean over layers."""
    kept, score, low, high = (100 * float(row[key]) for key in _MEASURED)
    return Point(round(kept, 1), score, low, high)


_MEASURED = ("layer_average_ratio", "score", "score_low", "score_high")


def curve(label: str, some: Sequence[Row]) -> Curve:
    return Curve(label, [point(row) for row in some])


def curve_of(name: str) -> Drawing:
    """A strategy beside `random` and the full model."""
    if inside.inside(name):
        return inside.curve_of(name)
    table = table_of(name)
    lines = [curve(name, cells_of(name))] if name != CONTROL else []
    if table != "methods":
        lines = [curve(f"{HOST}+{name}", cells_of(name)), curve(HOST, cells(table, HOST))]
    (full,) = cells(table, FULL)
    return beside(lines, curve(CONTROL, cells(table, CONTROL)), point(full), size=(8.0, 2.3))


def first_curve() -> Drawing:
    """The README's: two methods with and without DyToK."""
    pairs = ((HOST, SELF), (HOST, ""), ("dycoke", SELF), ("dycoke", ""))
    lines = [
        curve(f"{method}+dytok" if guide else method, cells("tinyvqa", method, guide))
        for method, guide in pairs
    ]
    (full,) = cells("tinyvqa", FULL)
    asked = f"Mean of 15 categories, {full['samples']} questions."
    bars = "Bars and band: 95 % intervals; points of one budget are set side by side."
    foot = f"{NOTE} {asked}\n{bars}"
    control = curve(CONTROL, cells("tinyvqa", CONTROL))
    return beside(lines, control, point(full), foot=foot)
