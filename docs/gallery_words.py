"""Figures of the gallery as its page writes them."""

from __future__ import annotations

from gallery_curves import Row


def score(row: Row) -> str:
    value, low, high = (100 * float(row[key]) for key in ("score", "score_low", "score_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def points(row: Row, name: str) -> str:
    value, low, high = (100 * float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def against(row: Row) -> str:
    return points(row, "to_random") if row["to_random"] else "-"


def whole(text: str) -> str:
    """An interval in one line of a narrow column."""
    return text.replace(", ", ",\u00a0")


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
