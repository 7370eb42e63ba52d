"""How figures and what they claim are written: the same in terminals, on pages and in notes."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.results.statistics import FEW, Estimate, Paired

UNTOLD = (
    f"resampling takes at least {FEW} samples about different videos in each category, "
    "and some spread"
)


def percent(value: float | None) -> str:
    """`41.2`, or nothing."""
    return "" if value is None else f"{100 * value:.1f}"


def points(value: float) -> str:
    """`+3.1`: a difference in points of a hundred."""
    return f"{100 * value:+.1f}"


def between(interval: Sequence[float] | None) -> str:
    """`[38.1, 44.4]`: a score's interval in per cent, or nothing."""
    return "" if interval is None else "[{}, {}]".format(*map(percent, interval))


def within(interval: Sequence[float] | None) -> str:
    """`[+0.4, +5.8]`: a difference's interval in points, or nothing."""
    return "" if interval is None else "[{}, {}]".format(*map(points, interval))


def number(value: float | int, unit: str = "") -> str:
    """One figure; its unit stands in the heading."""
    if unit == "%":
        return percent(value)
    if unit == "points":
        return points(value)
    if unit:  # of time
        return f"{value:.1f}"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def score(found: Estimate, apart: str = " ") -> str:
    """`41.2 [38.1, 44.4]`, or `41.2`."""
    return f"{percent(found.value)}{apart}{between(found.interval)}".rstrip()


def difference(found: Paired | None, apart: str = " ") -> str:
    """`+3.1 [+0.4, +5.8] *`, or `+3.1`: a star marks a claim."""
    if found is None:
        return ""
    star = " *" if found.sign else ""
    return f"{points(found.value)}{apart}{within(found.interval)}{star}".rstrip()


def distance(found: Paired, apart: str = " ") -> str:
    """`+3.1 [+0.4, +5.8]`, or `+3.1`."""
    return f"{points(found.value)}{apart}{within(found.interval)}".rstrip()


def duration(ms: float, full: float | None = None) -> str:
    """`12 ms (-51 %)`: beside what the full model takes, where that is known."""
    own = f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"
    if not full:
        return own
    percents = round(100 * (ms / full - 1))
    return f"{own} ({percents:+d} %)" if percents else f"{own} (as long)"


def change(found: Paired, apart: str = " ") -> str:
    """`+3.1 p=0.041 [+0.4, +5.8]`: McNemar's p instead of a claim."""
    p = "" if found.mcnemar_p is None else f" {probability(found.mcnemar_p)}"
    return f"{points(found.value)}{p}{apart}{within(found.interval)}".rstrip()


def probability(p: float) -> str:
    """`p=0.041`."""
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"


def verdict(found: Paired, other: str) -> str:
    """What a comparison claims."""
    if found.sign is None:
        return f"the samples give no interval to tell them apart ({UNTOLD})"
    told = {1: f"above {other}", -1: f"below {other}", 0: "the interval does not tell them apart"}
    return told[found.sign]
