"""The plots of a study or sweep: score over what was measured, with error bands, and scores by
family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenprune.results.statistics import Estimate
from tokenprune.study.results import CONTROL, Results, Row

# Okabe and Ito's colours, which stay apart for colour-blind readers; the control is black and
# dashed
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
_MARKERS = "osD^vPX*"
_DASHES = ("-", "-.", ":")
_BAND = 0.13
_TOKENS = "visual tokens kept, % (measured, mean over layers)"
_FLOPS = "FLOPs of the prefill over visual tokens, % of the full model's"


def retention(results: Results, file: Path) -> None:
    """One panel for the methods alone and one per guide of the allocator; dashed: `random` alone,
    in every panel.
    """
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(row.cell.guide for row in results.rows[1:]))
    methods = dict.fromkeys(
        row.cell.method for row in results.rows[1:] if row.cell.method != CONTROL
    )
    style = {
        name: (_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(methods)
    }
    style[CONTROL] = ("black", ".")
    figure = Figure(figsize=(4.2 * len(panels) + 1.3, 4.4), layout="constrained")
    axes: Sequence[Any] = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    control = [
        row for row in results.rows[1:] if row.cell.method == CONTROL and row.cell.guide is None
    ]
    for axis, guide in zip(axes, panels, strict=True):
        _full_model(axis, results)
        rows = [row for row in results.rows[1:] if row.cell.guide == guide]
        for name, (colour, marker) in style.items():
            own = [row for row in rows if row.cell.method == name]
            dashed = name == CONTROL and guide is None
            _line(
                axis,
                own,
                colour,
                marker,
                "--" if dashed else "-",
                f"{name} alone" if dashed else name,
            )
        if guide is not None:
            _line(axis, control, "black", ".", "--", f"{CONTROL} alone")
        _decorate(axis, results, rows, guide)
    axes[0].set_ylabel("macro-average score, %")
    handles = {
        label: line
        for axis in axes
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=9
    )
    _save(figure, file)


def _full_model(axis: Any, results: Results) -> None:
    macro = results.vanilla.macro
    if macro.interval is not None:
        low, high = macro.interval
        axis.axhspan(100 * low, 100 * high, color="0.5", alpha=_BAND, linewidth=0)
    axis.axhline(100 * macro.value, color="0.45", linewidth=1, label="full model")


def _line(axis: Any, rows: Sequence[Row], colour: str, marker: str, dash: str, label: str) -> None:
    if not rows:
        return
    points = sorted((100 * row.measured, row.macro) for row in rows)
    x, low, high = _intervals(points)
    if len(rows) == 1:  # too narrow for a band
        axis.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1.4)
    axis.fill_between(x, low, high, color=colour, alpha=_BAND, linewidth=0)
    x, y = [place for place, _ in points], [100 * macro.value for _, macro in points]
    axis.plot(x, y, dash, color=colour, marker=marker, markersize=4.5, linewidth=1.4, label=label)


def _intervals(
    points: Sequence[tuple[float, Estimate]],
) -> tuple[list[float], list[float], list[float]]:
    """Places, lower and upper ends of those that have an interval."""
    known = [(x, *macro.interval) for x, macro in points if macro.interval is not None]
    places, low, high = ([line[column] for line in known] for column in range(3))
    return places, [100 * end for end in low], [100 * end for end in high]


def _decorate(axis: Any, results: Results, rows: Sequence[Row], guide: str | None) -> None:
    allocator = next((row.cell.allocator for row in rows), None)
    axis.set_title(
        "methods alone" if guide is None else f"with {allocator}, guided by {guide}", fontsize=10
    )
    _budgets(axis, results)
    axis.set_xlabel(_TOKENS)
    _plain(axis)


def _budgets(axis: Any, results: Results, *more: float) -> None:
    """A logarithmic axis with a tick for each budget, and for `more` of them."""
    axis.set_xscale("log")
    ticks = [
        100 * ratio
        for ratio in (*(n / results.vanilla.cell.extent.cells for n in results.budgets), *more)
    ]
    axis.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axis.set_xticks([], minor=True)


def _plain(axis: Any) -> None:
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def over(results: Results, measure: Literal["tokens", "flops"], file: Path) -> None:
    """All methods of a sweep in one panel with error bars; the control is grey, and a cross marks
    the full model.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axis: Any = figure.subplots()
    _full_model(axis, results)
    full = 1.0 if measure == "tokens" else results.vanilla.flops
    axis.plot(100 * full, 100 * results.vanilla.macro.value, "x", color="0.3", markersize=7)
    names = dict.fromkeys(row.cell.method for row in results.rows[1:] if row.cell.method != CONTROL)
    for index, name in enumerate([CONTROL, *names]):
        # without grey; then the same colours with other marks
        turn, place = divmod(index - 1, len(_COLOURS) - 1)
        marker, dash = _MARKERS[(place + turn) % len(_MARKERS)], _DASHES[turn % len(_DASHES)]
        style = ("0.5", "o", "--") if name == CONTROL else (_COLOURS[place], marker, dash)
        own = [row for row in results.rows[1:] if row.cell.method == name]
        # equal budgets are at the same place, where error bars would cover each other
        aside = 1.0 + (0.012 * (index - len(names) / 2) if measure == "tokens" else 0.0)
        points = sorted(
            (100 * aside * (row.measured if measure == "tokens" else row.flops), row.macro)
            for row in own
        )
        _bars(axis, points, style, name)
    if measure == "tokens":
        _budgets(axis, results, 1.0)
    axis.set_xlabel(f"{_TOKENS}; methods side by side" if measure == "tokens" else _FLOPS)
    axis.set_ylabel("macro-average score, %")
    _plain(axis)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    _save(figure, file)


def _bars(
    axis: Any, points: Sequence[tuple[float, Estimate]], style: tuple[str, str, str], label: str
) -> None:
    """A line through `points` (place and score), with the intervals that there are."""
    if not points:
        return
    colour, marker, dash = style
    x, low, high = _intervals(points)
    axis.vlines(x, low, high, color=colour, alpha=0.55, linewidth=1.3)
    x, y = [place for place, _ in points], [100 * macro.value for _, macro in points]
    axis.plot(x, y, dash, color=colour, marker=marker, markersize=5, linewidth=1.5, label=label)


def families(results: Results, tokens: int, file: Path) -> None:
    """A heat map: methods in rows, the full model first, families in columns."""
    from matplotlib.figure import Figure

    rows = [results.vanilla, *results.at(tokens)]
    figure = Figure(
        figsize=(1.9 + 0.78 * len(results.families), 1.3 + 0.3 * len(rows)), layout="constrained"
    )
    axis: Any = figure.subplots()
    values = [[100 * row.families.get(name, math.nan) for name in results.families] for row in rows]
    axis.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axis.set_xticks(
        range(len(results.families)), results.families, rotation=35, ha="right", fontsize=9
    )
    axis.set_yticks(range(len(rows)), [row.cell.label for row in rows], fontsize=9)
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            axis.text(
                x,
                y,
                "" if math.isnan(value) else f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="w" if value < 60 else "k",
            )
    axis.set_title(
        f"score by family at {100 * tokens / results.vanilla.cell.extent.cells:.1f} % of the "
        "tokens, %",
        fontsize=10,
    )
    axis.spines[:].set_visible(False)
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=130, metadata={"Software": None})
