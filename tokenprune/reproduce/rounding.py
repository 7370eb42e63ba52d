"""Whether a figure is the one that is printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

_HAIR = 1e-9  # of a unit: figures that are equal but for floating point


def digits(printed: float | int) -> int:
    """Behind the point, as it stands in the file: 2 of 18.99, 0 of 100."""
    exponent = Decimal(str(printed)).as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def half_unit(printed: float | int) -> float:
    """Half of the last digit: how far the figure behind a rounded one can be."""
    return 0.5 * 10.0 ** -digits(printed)


def rounded(value: float | int, places: int) -> float:
    """Half upwards, as people round."""
    scale = 10.0**places
    return math.floor(value * scale + 0.5 + _HAIR) / scale


def truncated(value: float | int, places: int) -> float:
    scale = 10.0**places
    return math.floor(value * scale + _HAIR) / scale


def equal(printed: float | int, readings: Sequence[float]) -> bool:
    """Whether a reading is printed so, rounded or cut off; or lies within one unit of the last
    digit of what the readings span, where they differ.
    """
    places, unit = digits(printed), 10.0 ** -digits(printed)
    forms = {way(value, places) for value in readings for way in (rounded, truncated)}
    if any(_same(printed, form) for form in forms):
        return True
    low, high = min(readings), max(readings)
    if high - low <= _HAIR * max(1.0, abs(high)):
        return False
    return low - unit - _HAIR <= printed <= high + unit + _HAIR


def follows(printed: float | int, value: float | int, low: float | int, high: float | int) -> bool:
    """Whether a figure computed from rounded ones is printed so: `value` rounded or cut off, or
    anything between the limits rounded.
    """
    places = digits(printed)
    if any(_same(printed, way(value, places)) for way in (rounded, truncated)):
        return True
    return rounded(low, places) - _HAIR <= printed <= rounded(high, places) + _HAIR


def _same(one: float | int, other: float | int) -> bool:
    return abs(one - other) <= _HAIR * max(1.0, abs(one))


def seconds(value: Any) -> float:
    """`1:19:27` and `59:02` in seconds; a number as it is."""
    if not isinstance(value, str):
        return float(value)
    total = 0.0
    for part in value.split(":"):
        total = 60 * total + float(part)
    return total


def clock(value: float) -> str:
    """Seconds as papers print them: `1:19:27`."""
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
