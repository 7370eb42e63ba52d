"""The pictures of an analogue: curves over a number, a heat map over two, bars over anything else.

Needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from tokenprune.pictures.charts import Curve, Point, bars, curves, grid
from tokenprune.pictures.drawing import Drawing
from tokenprune.reproduce.grids.arms import FRAMES, KEEP
from tokenprune.reproduce.grids.grid import CONTROL, FULL, METHOD, Grid, Interval, Line
from tokenprune.reproduce.grids.words import axis, tick

_SCORE = "score, %"
_KEPT = "visual tokens kept, mean over layers, %"


def pictures(name: str, found: Grid) -> dict[str, Drawing]:
    """By file name: `name.png`, and `name-equal-FRAMES.png` at equal measured tokens."""
    numbers = [one for one in found.axes if one != FRAMES and _numeric(found.axes[one])]
    others = [one for one in found.axes if one not in (*numbers, FRAMES)]
    drawn: dict[str, Drawing] = {}
    if len(numbers) == 2 and not others and len(found.frames) == 1:
        drawn[f"{name}.png"] = _heat(found, *numbers)
    elif len(numbers) == 1 and not others:
        drawn[f"{name}.png"] = _over(found, numbers[0])
    else:
        drawn[f"{name}.png"] = _bars(found)
    for frames in found.frames:
        if len({line.retention for line in found.of(METHOD, frames)}) > 2:
            drawn[f"{name}-equal-{frames}.png"] = _equal(found, frames)
    return drawn


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _over(found: Grid, name: str) -> Drawing:
    """One curve for each method and number of frames; a method without the axis is level."""
    several = len(found.frames) > 1
    alone = len({line.method for line in found.of(METHOD)}) == 1
    lines = [
        Curve(
            _called(method, frames, several, alone),
            _points(own, name, found.axes[name]),
            _baseline(found, frames) if several or place == 0 else None,
        )
        for frames in found.frames
        for place, (method, own) in enumerate(_by_method(found.of(METHOD, frames)))
    ]
    if not several and name == KEEP:
        lines += list(_controls(found, found.frames[0], lambda line: _asked(found, line)))
    elif not several:
        lines += [
            Curve(method, _level(own[0], found.axes[name]), faint=True)
            for method, own in _by_method(found.of(CONTROL))
            if len(own) == 1
        ]
    return curves(lines, axis(name), _SCORE, falling=name == KEEP)


def _called(method: str, frames: int, several: bool, alone: bool) -> str:
    """By what tells the curve from others."""
    if not several:
        return method
    return f"{frames} frames" if alone else f"{method}, {frames} frames"


def _points(own: Sequence[Line], name: str, values: Sequence[Any]) -> list[Point]:
    if not any(name in line.at for line in own):
        return _level(own[0], values)
    scale = 100 if name == KEEP else 1
    return [_point(scale * line.at[name], line.score) for line in own if name in line.at]


def _level(line: Line, values: Sequence[Any]) -> list[Point]:
    """The same score at both ends of an axis that does not concern it."""
    return [_point(value, line.score) for value in (min(values), max(values))]


def _equal(found: Grid, frames: int) -> Drawing:
    """Methods and controls over the tokens that they were measured to keep."""
    lines = [
        Curve(
            method,
            [_point(round(line.retention, 1), line.score) for line in own],
            _baseline(found, frames) if place == 0 else None,
        )
        for place, (method, own) in enumerate(_by_method(found.of(METHOD, frames)))
    ]
    lines += list(_controls(found, frames, lambda line: round(line.retention, 1)))
    return curves(lines, _KEPT, _SCORE, title=f"{frames} frames", falling=True)


def _controls(found: Grid, frames: int, x: Any) -> Iterator[Curve]:
    for method, own in _by_method(found.of(CONTROL, frames)):
        yield Curve(method, [_point(x(line), line.score) for line in own], faint=True)


def _asked(found: Grid, control: Line) -> float:
    """The budget that was asked of the methods at whose tokens a control ran."""
    nearest = min(
        (line for line in found.of(METHOD) if KEEP in line.at),
        key=lambda line: abs(line.retention - control.retention),
    )
    return 100 * nearest.at[KEEP]


def _heat(found: Grid, first: str, second: str) -> Drawing:
    """Of the method that has both axes."""
    scores = {
        (line.at[first], line.at[second]): line.score.value
        for line in found.of(METHOD)
        if first in line.at and second in line.at
    }
    rows, columns = found.axes[first], found.axes[second]
    values = [[scores.get((one, other)) for other in columns] for one in rows]
    full = found.of(FULL)[0].score.value
    names, heads = ([tick(value) for value in values] for values in (rows, columns))
    title = f"score, %; full model {full:.1f}"
    return grid(names, heads, values, axis(first), axis(second), title=title)


def _bars(found: Grid) -> Drawing:
    lines = [line for role in (FULL, METHOD, CONTROL) for line in found.of(role)]
    return bars(
        [line.label for line in lines],
        {
            _SCORE: [round(line.score.value, 1) for line in lines],
            "tokens kept, %": [round(line.retention, 1) for line in lines],
        },
    )


def _by_method(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """In order of appearance."""
    order = list(dict.fromkeys(line.method for line in lines))
    ranked = sorted(lines, key=lambda line: order.index(line.method))
    return [(method, list(own)) for method, own in groupby(ranked, lambda line: line.method)]


def _baseline(found: Grid, frames: int) -> Point:
    return _point(0.0, found.of(FULL, frames)[0].score)


def _point(x: float, score: Interval) -> Point:
    return Point(x, score.value, score.low, score.high)
