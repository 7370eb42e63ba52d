"""Curves, bars and grids of results, from plain numbers: no model, no run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenprune.pictures.drawing import COLOURS, DASHES, INK, MARKS, Drawing, canvas, listed, plain

_HATCHES = ("", "//", "..", "xx", "\\\\", "++")
_BAND = 0.12
Number = float | int


class Point(NamedTuple):
    """A figure, and its 95 % interval where there is one."""

    x: Number
    y: Number
    low: Number | None = None
    high: Number | None = None


@dataclass(frozen=True)
class Curve:
    """One line.

    Args:
        label: what it is called
        points: in any order
        baseline: what it is compared with, a dashed line in its colour; `x` is not looked at
        faint: whether it is printed elsewhere and shown for comparison only
    """

    label: str
    points: Sequence[Point]
    baseline: Point | None = None
    faint: bool = False


def curves(
    lines: Sequence[Curve],
    x_label: str,
    y_label: str,
    title: str = "",
    falling: bool = False,
    baseline_label: str = "full model",
) -> Drawing:
    """Scores over a budget or an option, with intervals where there are some.

    `falling`: x counts down from left to right, as budgets do.
    """
    figure = canvas(7.2, 4.6)
    axis = figure.subplots()
    for place, line in enumerate(lines):
        _line(axis, line, place, baseline_label)
    if falling:
        axis.invert_xaxis()
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.set_title(title, fontsize=10)
    plain(axis)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, handlelength=3.4)
    return Drawing(figure, _words_of_curves(lines, x_label, y_label, baseline_label))


def _line(axis: Any, line: Curve, place: int, baseline_label: str) -> None:
    colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
    points = sorted(line.points)
    for point in points:
        if point.low is not None and point.high is not None:
            axis.plot(
                [point.x] * 2, [point.low, point.high], color=colour, alpha=0.6, linewidth=1.3
            )
    axis.plot(
        [point.x for point in points],
        [point.y for point in points],
        color=colour,
        marker=mark,
        linestyle=DASHES[place % len(DASHES)],
        alpha=0.45 if line.faint else 1.0,
        markerfacecolor="none" if line.faint else colour,
        label=line.label,
    )
    if (full := line.baseline) is None:
        return
    if full.low is not None and full.high is not None:
        axis.axhspan(full.low, full.high, color=colour, alpha=_BAND, linewidth=0)
    name = f"{line.label}: {baseline_label}"
    axis.axhline(full.y, color=colour, linestyle=(0, (6, 3)), linewidth=1.1, label=name)
    axis.plot([points[-1].x if points else full.x], [full.y], color=colour, marker=mark, alpha=0.6)


def _words_of_curves(lines: Sequence[Curve], x: str, y: str, baseline_label: str) -> str:
    told = []
    for line in lines:
        ends = [f"{point.y:.1f} at {point.x:g}" for point in sorted(line.points)]
        full = "" if line.baseline is None else f" ({baseline_label} {line.baseline.y:.1f})"
        told.append(f"{line.label}: {listed(ends)}{full}")
    return f"{y} over {x}. {'; '.join(told)}."


def bars(
    labels: Sequence[str], measures: Mapping[str, Sequence[Number | None]], title: str = ""
) -> Drawing:
    """A panel for each measure, whose unit stands in its name, and a bar for each of `labels`."""
    figure = canvas(1.2 + 2.5 * len(measures), 1.4 + 0.42 * len(labels))
    axes = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for axis, (name, values) in zip(axes, measures.items(), strict=True):
        shown = [value or 0.0 for value in values]
        for place, value in enumerate(shown):
            colour, hatch = COLOURS[place % len(COLOURS)], _HATCHES[place % len(_HATCHES)]
            axis.barh(place, value, color=colour, hatch=hatch, edgecolor="white", height=0.7)
        for place, value in enumerate(values):
            text = " -" if value is None else f" {value:g}"
            axis.text(value or 0.0, place, text, va="center", fontsize=9)
        axis.set_yticks(range(len(labels)), labels)
        axis.set_xlim(0, 1.22 * max([*shown, 1e-9]))
        axis.set_xlabel(name)
        plain(axis, "x")
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    told = []
    for name, values in measures.items():
        known = ("not given" if value is None else f"{value:g}" for value in values)
        each = [f"{who} {value}" for who, value in zip(labels, known, strict=True)]
        told.append(f"{name}: {listed(each)}")
    return Drawing(figure, f"Bars. {'; '.join(told)}.")


def grid(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Number | None]],
    row_label: str,
    column_label: str,
    title: str = "",
    digits: int = 1,
) -> Drawing:
    """A heat map with its numbers: darker is higher, and each cell says how high."""
    figure = canvas(2.0 + 0.8 * len(columns), 1.5 + 0.5 * len(rows))
    axis = figure.subplots()
    numbers = [[math.nan if value is None else value for value in line] for line in values]
    known = [value for line in numbers for value in line if not math.isnan(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    axis.imshow(numbers, cmap="Blues", vmin=low - 0.05, vmax=high + 0.05, aspect="auto")
    for y, line in enumerate(numbers):
        for x, value in enumerate(line):
            text = "-" if math.isnan(value) else f"{value:.{digits}f}"
            dark = value > (low + high) / 2
            axis.text(x, y, text, ha="center", va="center", fontsize=9, color="w" if dark else INK)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0)
    axis.set_xlabel(column_label)
    axis.set_ylabel(row_label)
    axis.set_title(title, fontsize=10)
    axis.spines[:].set_visible(False)
    told = [
        f"{row}: {', '.join('none' if v is None else f'{v:.{digits}f}' for v in line)}"
        for row, line in zip(rows, values, strict=True)
    ]
    heads = f"{row_label} by {column_label} ({', '.join(columns)})"
    return Drawing(figure, f"{title + ': ' if title else ''}{heads}. {'; '.join(told)}.")
