"""`bench.png`: where the time goes, one bar per system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which stay apart for colour-blind readers
_PARTS = (
    ("video_ms", "video decoding", "#999999"),
    ("preprocess_ms", "preprocessing", "#56B4E9"),
    ("vision_ms", "tower and projector", "#0072B2"),
    ("strategy_ms", "strategy", "#D55E00"),
    ("probe_ms", "probe", "#CC79A7"),
    ("prefill_ms", "LLM prefill", "#009E73"),
)
_DECODE = ("decoding", "#F0E442")


def parts(figures: Mapping[str, Any], tokens: int) -> list[float]:
    """Milliseconds of each part of a bar.

    They are medians, and need not add up to the median of the total.
    """
    decoding = (tokens - 1) * figures["decode_ms_per_token"]
    return [*(figures[name] or 0.0 for name, _, _ in _PARTS), decoding]


def chart(result: Mapping[str, Any], file: Path) -> None:
    """Draws the full model once, then each strategy above its oracle and `random`."""
    from matplotlib.figure import Figure

    where, bars = result["environment"], _bars(result["rows"])
    places = _places(len(bars))
    figure = Figure(figsize=(8.6, 1.6 + 0.32 * places[-1]), layout="constrained")
    axis = figure.subplots()
    _stack(axis, places, [parts(figures, where["new_tokens"]) for _, figures in bars])
    axis.set_yticks(places, [label for label, _ in bars])
    _dress(axis, _title(where))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _bars(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Labels and figures of the bars, from the top."""
    bars = [("full model", rows[0]["vanilla"])]
    for row in rows:
        bars += [
            (row["spec"], row["strategy"]),
            ("dense oracle", row["oracle"]),
            ("random", row["random"]),
        ]
    return bars


def _places(bars: int) -> list[float]:
    """Heights of `bars` bars, with a gap before each strategy."""
    return [number + 0.6 * ((number + 2) // 3) for number in range(bars)]


def _stack(axis: Any, places: Sequence[float], lengths: Sequence[Sequence[float]]) -> None:
    """Draws bars at `places`, each of its parts side by side, of the `lengths` of that bar."""
    left = [0.0] * len(places)
    looks = [*((label, colour) for _, label, colour in _PARTS), _DECODE]
    for index, (label, colour) in enumerate(looks):
        width = [length[index] for length in lengths]
        if not any(width):  # there is none: made-up features need no tower
            continue
        axis.barh(places, width, left=left, color=colour, label=label, height=0.8)
        left = [start + more for start, more in zip(left, width, strict=True)]


def _title(where: Mapping[str, Any]) -> str:
    """What was measured, on what."""
    return (
        f"{where['model']}, {where['weights']} weights, {where['dtype']} on "
        f"{where['device_name']}: "
        f"{where['frames']} frames, batch {where['batch']}, {where['new_tokens']} tokens"
    )


def _dress(axis: Any, title: str) -> None:
    """Title, unit and grid, the first bar on top."""
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds, medians")
    axis.set_title(title, fontsize=9)
    axis.grid(axis="x", alpha=0.25, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
