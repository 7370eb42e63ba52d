"""The plots of a study or sweep: score over what was measured, and scores by category."""

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
    """One panel for the methods alone and one per guide of the allocator.

    Dashed: `random` alone, in every panel.
    """
    from matplotlib.figure import Figure

    rows = results.rows[1:]
    guides = list(dict.fromkeys(row.cell.guide for row in rows))
    methods = [name for name in dict.fromkeys(row.cell.method for row in rows) if name != CONTROL]
    figure = Figure(figsize=(4.2 * len(guides) + 1.3, 4.4), layout="constrained")
    axes: Sequence[Any] = figure.subplots(1, len(guides), sharey=True, squeeze=False)[0]
    for axis, guide in zip(axes, guides, strict=True):
        _full_model(axis, results)
        shown = [row for row in rows if row.cell.guide == guide]
        _methods(axis, shown, methods)
        _control(axis, rows, guide)
        _decorate(axis, results, shown, guide)
    axes[0].set_ylabel("macro-average score, %")
    named = [axis.get_legend_handles_labels() for axis in axes]
    handles = {
        label: line for lines, labels in named for line, label in zip(lines, labels, strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=9
    )
    _save(figure, file)


def _methods(axis: Any, rows: Sequence[Row], methods: Sequence[str]) -> None:
    """A line for each but the control."""
    for place, name in enumerate(methods):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        _line(axis, [row for row in rows if row.cell.method == name], colour, marker, "-", name)


def _control(axis: Any, rows: Sequence[Row], guide: str | None) -> None:
    """`random` alone and, in the panel of a guide, under the allocator."""
    control = [row for row in rows if row.cell.method == CONTROL]
    guided = [row for row in control if row.cell.guide == guide and guide is not None]
    alone = [row for row in control if row.cell.guide is None]
    _line(axis, guided, "black", ".", "-", CONTROL)
    _line(axis, alone, "black", ".", "--", f"{CONTROL} alone")


def _full_model(axis: Any, results: Results) -> None:
    score = results.vanilla.score
    if score.interval is not None:
        low, high = score.interval
        axis.axhspan(100 * low, 100 * high, color="0.5", alpha=_BAND, linewidth=0)
    axis.axhline(100 * score.value, color="0.45", linewidth=1, label="full model")


def _line(axis: Any, rows: Sequence[Row], colour: str, marker: str, dash: str, label: str) -> None:
    if not rows:
        return
    points = _by_place([100 * row.retention for row in rows], [row.score for row in rows])
    x, low, high = _intervals(points)
    if len(rows) == 1:  # too narrow for a band
        axis.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1.4)
    axis.fill_between(x, low, high, color=colour, alpha=_BAND, linewidth=0)
    x, y = [place for place, _ in points], [100 * score.value for _, score in points]
    axis.plot(x, y, dash, color=colour, marker=marker, markersize=4.5, linewidth=1.4, label=label)


def _by_place(places: Sequence[float], scores: Sequence[Estimate]) -> list[tuple[float, Estimate]]:
    return sorted(zip(places, scores, strict=True), key=lambda point: point[0])


def _intervals(
    points: Sequence[tuple[float, Estimate]],
) -> tuple[list[float], list[float], list[float]]:
    """Places, lower and upper ends of those that have an interval."""
    known = [(x, *score.interval) for x, score in points if score.interval is not None]
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
    budgets = [tokens / results.cells for tokens in results.budgets]
    ticks = [100 * ratio for ratio in (*budgets, *more)]
    axis.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axis.set_xticks([], minor=True)


def _plain(axis: Any) -> None:
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def over(results: Results, measure: Literal["tokens", "flops"], file: Path) -> None:
    """All methods of a sweep in one panel with error bars.

    The control is grey, and a cross marks the full model.
    """
    from matplotlib.figure import Figure

    rows, full = results.rows[1:], results.vanilla
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axis: Any = figure.subplots()
    _full_model(axis, results)
    x = 1.0 if measure == "tokens" else full.flops
    axis.plot(100 * x, 100 * full.score.value, "x", color="0.3", markersize=7)
    names = [name for name in dict.fromkeys(row.cell.method for row in rows) if name != CONTROL]
    for index, name in enumerate([CONTROL, *names]):
        shown = [row for row in rows if row.cell.method == name]
        # equal budgets are at the same place, where error bars would cover each other
        aside = 1.0 + 0.012 * (index - len(names) / 2) if measure == "tokens" else 1.0
        places = [row.retention if measure == "tokens" else row.flops for row in shown]
        scores = [row.score for row in shown]
        points = _by_place([100 * aside * place for place in places], scores)
        _bars(axis, points, _style(index), name)
    if measure == "tokens":
        _budgets(axis, results, 1.0)
    axis.set_xlabel(f"{_TOKENS}; methods side by side" if measure == "tokens" else _FLOPS)
    axis.set_ylabel("macro-average score, %")
    _plain(axis)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    _save(figure, file)


def _style(index: int) -> tuple[str, str, str]:
    """Colour, marker and dashes of the control (0) and of methods, without grey for these."""
    if index == 0:
        return "0.5", "o", "--"
    # after the last colour, the same ones with other marks
    turn, place = divmod(index - 1, len(_COLOURS) - 1)
    return (
        _COLOURS[place],
        _MARKERS[(place + turn) % len(_MARKERS)],
        _DASHES[turn % len(_DASHES)],
    )


def _bars(
    axis: Any, points: Sequence[tuple[float, Estimate]], style: tuple[str, str, str], label: str
) -> None:
    """A line through `points` (place and score), with the intervals that there are."""
    if not points:
        return
    colour, marker, dash = style
    x, low, high = _intervals(points)
    axis.vlines(x, low, high, color=colour, alpha=0.55, linewidth=1.3)
    x, y = [place for place, _ in points], [100 * score.value for _, score in points]
    axis.plot(x, y, dash, color=colour, marker=marker, markersize=5, linewidth=1.5, label=label)


def categories(results: Results, tokens: int, file: Path) -> None:
    """A heat map: methods in rows, the full model first, categories in columns."""
    from matplotlib.figure import Figure

    rows = [results.vanilla, *results.at(tokens)]
    figure = Figure(
        figsize=(1.9 + 0.78 * len(results.categories), 1.3 + 0.3 * len(rows)), layout="constrained"
    )
    axis: Any = figure.subplots()
    values = [
        [100 * row.categories.get(name, math.nan) for name in results.categories] for row in rows
    ]
    axis.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axis.set_xticks(
        range(len(results.categories)), results.categories, rotation=35, ha="right", fontsize=9
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
        f"score by category at {100 * tokens / results.cells:.1f} % of the tokens, %",
        fontsize=10,
    )
    axis.spines[:].set_visible(False)
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=130, metadata={"Software": None})
