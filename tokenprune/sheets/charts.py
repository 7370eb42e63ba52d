"""Small curves beside a sheet, as paths of SVG, each with the same in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tokenprune.sheets.sheet import Number, Sheet

WIDE, TALL = 240, 56  # of a chart's view box
_EVEN = 1.5  # weights whose largest is below so many times the mean tell frames little apart


class Star(NamedTuple):
    """Where a frame that holds what is asked about stands on a curve."""

    x: float
    y: float


class Chart(NamedTuple):
    """One curve."""

    title: str
    words: str  # what it says, for whoever does not see it
    path: str
    area: str  # the same, closed below
    top: str  # the axis' upper end
    ends: tuple[str, str]  # names of its first and last place
    stars: tuple[Star, ...] = ()


def charts(sheet: Sheet) -> Iterator[Chart]:
    """What is known of a sheet: weights of frames, tokens by layer, tokens by decoding step."""
    if sheet.weights is not None and sum(sheet.weights) > 0:
        yield _weights(sheet, sheet.weights)
    if len(sheet.layers) > 1:
        words = "; ".join(_runs("layer", sheet.layers))
        yield _steps("tokens by layer", words, sheet.layers, sheet.total, 0, "layer")
    if sheet.decode:
        words = "; ".join(_runs("step", sheet.decode, 1))
        yield _steps("tokens by decoding step", words, sheet.decode, sheet.total, 1, "step")


def _weights(sheet: Sheet, weights: Sequence[Number]) -> Chart:
    total = sum(weights)
    shares = [100 * weight / total for weight in weights]
    top, number = max(shares), len(shares)
    wide = WIDE / number
    places = [(wide * (place + 0.5), _height(share, top)) for place, share in enumerate(shares)]
    best = sorted(range(number), key=lambda frame: (-shares[frame], frame))[:3]
    told = ", ".join(f"frame {frame + 1} {shares[frame]:.1f} %" for frame in best)
    if top < _EVEN * 100 / number:
        told = f"nearly even, at most {top:.1f} %"
    line = "".join(f"{'L' if place else 'M'}{x:.4g} {y:.4g}" for place, (x, y) in enumerate(places))
    stars = tuple(Star(*places[frame]) for frame in sheet.evidence)
    area = f"{line}V{TALL}H{places[0][0]:.4g}z"
    return Chart("weight of frames", told, line, area, f"{top:.0f} %", ("1", str(number)), stars)


def _steps(
    title: str, words: str, values: Sequence[int], full: int, first: int, unit: str
) -> Chart:
    """A staircase: as wide a step for each value."""
    top = max(full, *values)
    wide = WIDE / len(values)
    line = f"M0 {_height(values[0], top):.4g}"
    place = 0
    for value, same in groupby(values):
        place += len(list(same))
        line += f"V{_height(value, top):.4g}H{wide * place:.4g}"
    ends = (f"{unit} {first}", str(len(values) - 1 + first))
    return Chart(title, words, line, f"{line}V{TALL}H0z", str(top), ends)


def _height(value: Number, top: Number) -> float:
    return 2 + (TALL - 2) * (1 - value / top) if top else TALL


def _runs(unit: str, values: Sequence[int], first: int = 0, most: int = 6) -> Iterator[str]:
    """`layers 0 to 2: 264`; of many stretches the first ones, and where it ends."""
    place = first
    stretches = [(value, len(list(same))) for value, same in groupby(values)]
    for value, length in stretches[:most]:
        last = place + length - 1
        yield f"{unit} {place}: {value}" if length == 1 else f"{unit}s {place} to {last}: {value}"
        place = last + 1
    if len(stretches) > most:
        yield f"... {unit} {first + len(values) - 1}: {values[-1]}"
