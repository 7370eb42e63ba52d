"""Methods over what they keep, beside the full model and the random control, named at their lines.

From plain numbers: no model, no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tokenprune.pictures.charts import Curve, Point
from tokenprune.pictures.drawing import COLOURS, DASHES, MARKS, Drawing, canvas, listed, plain

_ASIDE = 0.97  # times what is kept: so far apart stand two methods at one budget
_GREY = "#555555"
FULL = "full model"
_LINE = 10.5  # points between two names at the right


def beside(
    lines: Sequence[Curve],
    control: Curve,
    full: Point,
    size: tuple[float, float] = (7.4, 3.7),
    foot: str = "",
    over: str = "visual tokens kept, % (mean over layers)",
) -> Drawing:
    """Scores over what is kept, all in percent, with their intervals; half as much is everywhere as
    far. Where the control was measured there are numbers below, and `over` says of what.

    `full` is the full model's, a line across with its interval as a band; of it `x` is not looked
    at. A line ends at the last budget that its method reaches.
    """
    budgets = sorted((point.x for point in control.points), reverse=True)
    last = min(point.x for line in (control, *lines) for point in line.points)
    figure = canvas(*size)
    axis = figure.subplots()
    axis.set_xscale("log")
    axis.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axis.set_xticks([], minor=True)
    axis.set_xlim(1.12 * budgets[0], last / 1.12)
    axis.axhline(full.y, color=_GREY, linewidth=1.8)
    if full.low is not None and full.high is not None:
        axis.axhspan(full.low, full.high, color=_GREY, alpha=0.14, linewidth=0)
    ends = [_line(axis, control, 1.0, {"color": "black", "linewidth": 2.4, "marker": "x"})]
    for place, line in enumerate(lines):
        look = {"color": COLOURS[place], "linestyle": DASHES[place], "marker": MARKS[place]}
        aside = _ASIDE ** (place + 1 - len(lines) // 2 - (place < len(lines) // 2))
        ends.append(_line(axis, line, aside, {**look, "linewidth": 1.6}))
    ends.append(End(FULL, last, float(full.y), _GREY))
    _names(axis, ends, last)
    axis.set_xlabel(over)
    axis.set_ylabel("score, %")
    if foot:
        figure.supxlabel(foot, fontsize=7.5, x=0.01, ha="left")
    plain(axis)
    return Drawing(figure, _words(lines, control, full, over))


class End(NamedTuple):
    """Where a line stops, and how it is called."""

    label: str
    x: float
    y: float
    colour: str


def _line(axis: Any, line: Curve, aside: float, look: dict[str, Any]) -> End:
    """Draws one, its points `aside` times where they are."""
    points = sorted(line.points, key=lambda point: -point.x)
    places = [aside * point.x for point in points]
    for place, point in zip(places, points, strict=True):
        if point.low is not None and point.high is not None:
            bar = {"color": look["color"], "alpha": 0.55, "linewidth": 1.2}
            axis.plot([place] * 2, [point.low, point.high], **bar)
    axis.plot(places, [point.y for point in points], markersize=5, **look)
    return End(line.label, places[-1], float(points[-1].y), look["color"])


def _names(axis: Any, ends: Sequence[End], last: float | int) -> None:
    """Where a line stops early behind its end; the others beside the plot, one below the other."""
    from matplotlib.patheffects import withStroke

    axis.figure.canvas.draw()
    high = axis.get_window_extent().height * 72 / axis.figure.dpi  # in points
    low, top = axis.get_ylim()
    unit = (top - low) / high * _LINE
    below = top + unit
    for end in sorted(ends, key=lambda end: -end.y):
        early = end.x > 1.15 * last
        look: dict[str, Any] = {"color": end.colour, "fontsize": 9, "va": "center"}
        if early:
            halo = [withStroke(linewidth=2.5, foreground="white")]
            axis.text(end.x / 1.04, end.y, end.label, path_effects=halo, **look)
            continue
        below = min(end.y, below - unit)
        line = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.6, "alpha": 0.6}
        at = {"xytext": (last / 1.16, below), "annotation_clip": False}
        arrow = {**line, "shrinkA": 0, "shrinkB": 4}
        axis.annotate(end.label, (end.x, end.y), arrowprops=arrow, **at, **look)
    axis.set_ylim(low, top)


def _words(lines: Sequence[Curve], control: Curve, full: Point, over: str) -> str:
    what, _, _ = over.partition(",")
    told = [f"Score in % over {what} in %. {FULL} {_figure(full)}."]
    for line in (control, *lines):
        points = sorted(line.points, key=lambda point: -point.x)
        each = [f"{_figure(point)} at {point.x:g}" for point in points]
        told.append(f"{line.label}: {listed(each)}.")
    return " ".join(told)


def _figure(point: Point) -> str:
    interval = "" if point.low is None else f" [{point.low:.1f}, {point.high:.1f}]"
    return f"{point.y:.1f}{interval}"
