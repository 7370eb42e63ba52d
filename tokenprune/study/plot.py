"""The plots of a study or sweep: score over what was kept, and what categories lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokenprune.results.statistics import Estimate
from tokenprune.study.phrases import percents
from tokenprune.study.results import CONTROL, Results, Row

# Okabe and Ito's colours, which stay apart for colour-blind readers; marks and dashes tell the
# methods apart in grey. The control is black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
_BAND = 0.18
# between methods at one budget, of the distance of two budgets; all of them together
_ASIDE, _ROOM = 0.11, 0.7
_PANEL, _EACH = 3.9, 0.45  # inches across, at least, and for each method
_LINE, _LETTER = 0.75, 0.085  # of the legend: in front of a name, and for each of its letters
_TOKENS = "visual tokens kept, %"
_FLOPS = "FLOPs of the prefill over visual tokens, % of the full model's"
_SCORE = "score (mean over categories), %"


class _Style(NamedTuple):
    """How one method is drawn."""

    colour: str
    marker: str
    dash: Any
    width: float = 1.5


_CONTROL = _Style("black", "x", "-", 2.6)
_GUIDED = _Style("black", "x", (0, (2, 2)), 1.2)  # the control under an allocator


def _style(place: int) -> _Style:
    """Of the methods besides the control, by their place."""
    return _Style(
        _COLOURS[place % len(_COLOURS)],
        _MARKERS[place % len(_MARKERS)],
        _DASHES[place % len(_DASHES)],
    )


def _styles(rows: Sequence[Row]) -> dict[str, _Style]:
    """The control first, if it is there."""
    names = list(dict.fromkeys(row.cell.method for row in rows))
    others = [name for name in names if name != CONTROL]
    control = {CONTROL: _CONTROL} if CONTROL in names else {}
    return control | {name: _style(place) for place, name in enumerate(others)}


def retention(results: Results, file: Path) -> None:
    """One panel for the methods alone and one per guide of the allocator, budgets side by side.

    In every panel: the full model, and `random` alone.
    """
    from matplotlib.figure import Figure

    rows = results.rows[1:]
    guides = list(dict.fromkeys(row.cell.guide for row in rows))
    across = max(_PANEL, _EACH * len(_styles(rows))) * len(guides)
    figure = Figure(figsize=(1.4 + across, 5.0), layout="constrained")
    axes: list[Any] = list(figure.subplots(1, len(guides), sharey=True, squeeze=False)[0])
    for axis, guide in zip(axes, guides, strict=True):
        _full_model(axis, results)
        _control_alone(axis, results, guide)
        _panel(axis, results, guide)
        axis.set_title(_title(rows, guide), fontsize=11)
        ticks = [percents(tokens / results.cells) for tokens in results.budgets]
        axis.set_xticks(range(len(ticks)), ticks)
        axis.set_xlabel(_TOKENS)
        _plain(axis)
    axes[0].set_ylabel(_SCORE)
    _legend(figure, axes)
    _save(figure, file)


def _panel(axis: Any, results: Results, guide: str | None) -> None:
    """A line for each method, a little aside of the others."""
    places = {tokens: place for place, tokens in enumerate(results.budgets)}
    for name, (aside, style) in _asides(results).items():
        shown = [r for r in results.rows[1:] if (r.cell.method, r.cell.guide) == (name, guide)]
        points = [(places[row.cell.tokens] + aside, row.score) for row in shown]
        if name == CONTROL and guide is not None:
            _bars(axis, points, _GUIDED, f"{CONTROL}, guided")
        else:
            _bars(axis, points, style, name)


def _asides(results: Results) -> dict[str, tuple[float, _Style]]:
    """How far from its budget each method is drawn, and how; the control exactly there."""
    styles = _styles(results.rows[1:])
    others = [name for name in styles if name != CONTROL]
    left = len(others) // 2
    steps = {name: at - left + (at >= left) for at, name in enumerate(others)}
    step = min(_ASIDE, _ROOM / max(1, len(others)))
    return {name: (step * steps.get(name, 0), style) for name, style in styles.items()}


def _title(rows: Sequence[Row], guide: str | None) -> str:
    if guide is None:
        return "each method alone"
    allocator = next(row.cell.allocator for row in rows if row.cell.guide == guide)
    whom = "the model itself" if guide == "self" else guide
    return f"with {allocator}, guided by {whom}"


def _control_alone(axis: Any, results: Results, guide: str | None) -> None:
    """Where the control is in the panels of guides: what all are compared with."""
    if guide is None:
        return
    places = {tokens: place for place, tokens in enumerate(results.budgets)}
    alone = [r for r in results.rows[1:] if (r.cell.method, r.cell.guide) == (CONTROL, None)]
    points = [(float(places[row.cell.tokens]), row.score) for row in alone]
    x, y = _line(points)
    colour, marker, dash, width = _CONTROL
    axis.plot(x, y, dash, color=colour, marker=marker, linewidth=width, label=CONTROL)


def _full_model(axis: Any, results: Results) -> None:
    """A line across, with its interval."""
    score = results.vanilla.score
    if score.interval is not None:
        low, high = score.interval
        axis.axhspan(100 * low, 100 * high, color="0.5", alpha=_BAND, linewidth=0)
    axis.axhline(100 * score.value, color="0.35", linewidth=2.2, label="full model")


def _line(points: Sequence[tuple[float, Estimate]]) -> tuple[list[float], list[float]]:
    ordered = sorted(points, key=lambda point: point[0])
    return [place for place, _ in ordered], [100 * score.value for _, score in ordered]


def _bars(axis: Any, points: Sequence[tuple[float, Estimate]], style: _Style, label: str) -> None:
    """A line through `points` (place and score), with the intervals that there are."""
    if not points:
        return
    known = [(x, score.interval) for x, score in points if score.interval is not None]
    ends = [(x, 100 * interval[0], 100 * interval[1]) for x, interval in known]
    for x, low, high in ends:
        axis.plot([x, x], [low, high], color=style.colour, alpha=0.6, linewidth=1.3)
    x, y = _line(points)
    axis.plot(
        x,
        y,
        color=style.colour,
        linestyle=style.dash,
        marker=style.marker,
        markersize=6,
        linewidth=style.width,
        label=label,
    )


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """One for all panels, below them."""
    named = [axis.get_legend_handles_labels() for axis in axes]
    handles = {
        label: line for lines, labels in named for line, label in zip(lines, labels, strict=True)
    }
    widest = _LINE + _LETTER * max(map(len, handles))
    fitting = max(1, int(figure.get_figwidth() // widest))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(len(handles), fitting),
        handlelength=3.2,
        frameon=False,
        fontsize=10,
        title="bars and band: 95 % intervals",
        title_fontsize=9,
    )


def _plain(axis: Any) -> None:
    axis.grid(axis="y", alpha=0.3, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def over(results: Results, measure: Literal["tokens", "flops"], file: Path) -> None:
    """All methods of a sweep in one panel; a cross marks the full model."""
    from matplotlib.figure import Figure

    rows, full = results.rows[1:], results.vanilla
    figure = Figure(figsize=(8.4, 5.4), layout="constrained")
    axis: Any = figure.subplots()
    _full_model(axis, results)
    x = 1.0 if measure == "tokens" else full.flops
    axis.plot(100 * x, 100 * full.score.value, "P", color="0.35", markersize=9)
    styles = _styles(rows)
    for index, (name, style) in enumerate(styles.items()):
        shown = [row for row in rows if row.cell.method == name]
        # equal budgets are at the same place, where error bars would cover each other
        aside = 1.0 + 0.014 * (index - (len(styles) - 1) / 2) if measure == "tokens" else 1.0
        places = [row.retention if measure == "tokens" else row.flops for row in shown]
        scores = [row.score for row in shown]
        points = [(100 * aside * x, score) for x, score in zip(places, scores, strict=True)]
        _bars(axis, points, style, name)
    if measure == "tokens":
        _logarithmic(axis, results)
    axis.set_xlabel(f"{_TOKENS} (measured)" if measure == "tokens" else _FLOPS)
    axis.set_ylabel(_SCORE)
    _plain(axis)
    _legend(figure, [axis])
    _save(figure, file)


def _logarithmic(axis: Any, results: Results) -> None:
    """A tick for each budget, and for everything."""
    axis.set_xscale("log")
    budgets = [tokens / results.cells for tokens in results.budgets]
    ticks = [100 * ratio for ratio in (*budgets, 1.0)]
    axis.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axis.set_xticks([], minor=True)


def categories(results: Results, tokens: int, file: Path) -> None:
    """Points that methods lose of the full model's score in each category: the darker the more.

    The full model's scores stand above.
    """
    from matplotlib.figure import Figure

    rows, names = results.at(tokens), results.categories
    full = results.vanilla.categories
    lost = [
        [100 * (row.categories.get(one, math.nan) - full[one]) for one in names] for row in rows
    ]
    size = (2.2 + 0.74 * len(names), 1.3 + 0.29 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axis: Any = figure.subplots()
    axis.imshow(lost, cmap="Blues_r", vmin=-70, vmax=0, aspect="auto")
    for y, line in enumerate(lost):
        for x, value in enumerate(line):
            _number(axis, x, y, value)
    heads = [f"{one}\n{100 * full[one]:.0f} %" for one in names]
    turned = {"rotation": 40, "ha": "left"} if max(map(len, names)) > 10 else {}
    axis.set_xticks(range(len(names)), heads, fontsize=9, **turned)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(rows)), [row.cell.label for row in rows], fontsize=9)
    axis.tick_params(length=0)
    axis.set_title(
        f"score at {percents(tokens / results.cells)} % of the tokens, in points above or below "
        "the full model, whose scores head the columns",
        fontsize=10,
    )
    for y in range(1, len(rows)):
        if rows[y].cell.guide != rows[y - 1].cell.guide:
            axis.axhline(y - 0.5, color="k", linewidth=1)
    axis.spines[:].set_visible(False)
    _save(figure, file)


def _number(axis: Any, x: int, y: int, value: float) -> None:
    if not math.isnan(value):
        dark = value < -35
        text = "0" if abs(value) < 0.5 else f"{value:+.0f}"
        axis.text(x, y, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=130, metadata={"Software": None})
