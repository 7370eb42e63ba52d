"""Rank and score of every guide over what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.guide.findings import Findings, Found
from experiments.guide.measure import NONE, RANDOM
from experiments.guide.settings import HOST
from tokenprune.results.statistics import Estimate

# Okabe and Ito's colours, which stay apart for colour-blind readers
_COLOURS = {"self": "#0072B2", "nano": "#D55E00"}
_FILLED = 1  # the pool whose marks are
_TICKS = (0.3, 1, 3, 10, 30, 100)
_LINES = {NONE: "-", HOST: "--", RANDOM: ":"}


def draw(findings: Findings, file: Path) -> None:
    """Two panels over one axis: where the needle's frame is ranked, and what is answered."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.6), layout="constrained")
    ranks, scores = figure.subplots(1, 2)
    _guides(ranks, findings, lambda one: one.rank, 1.0)
    ranks.axhline(findings.chance, color="0.45", linewidth=1, linestyle=":", label="chance")
    ranks.set_ylabel("mean reciprocal rank of the needle's frame")
    _guides(scores, findings, lambda one: one.score, 100.0)
    for control in findings.controls:
        name = control.name if control.name == NONE else f"{control.name}, no guide"
        style = _LINES[control.name]
        scores.axhline(100 * control.score.value, color="0.35", linestyle=style, label=name)
    scores.set_ylabel(f"score at {100 * findings.keep:.0f} % of the tokens, %")
    for axis in (ranks, scores):
        axis.set_xscale("log")
        axis.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axis.set_xlabel("operations of the probe, % of the full prefill")
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    named = [axis.get_legend_handles_labels() for axis in (ranks, scores)]
    both = {
        label: line for lines, labels in named for line, label in zip(lines, labels, strict=True)
    }
    figure.legend(
        both.values(), both.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _guides(axis: Any, findings: Findings, of: Callable[[Found], Estimate], scale: float) -> None:
    kinds = dict.fromkeys((one.setting.guide, one.setting.pool) for one in findings.guides)
    for guide, pool in kinds:
        mine = [
            one for one in findings.guides if (one.setting.guide, one.setting.pool) == (guide, pool)
        ]
        for one in mine:
            _bar(axis, one, of(one), scale)
        single = [one for one in mine if one.setting.layers is not None]
        third = [one for one in mine if one.setting.layers is None]
        label = f"{guide}, pool {pool}"
        fill = {} if pool == _FILLED else {"markerfacecolor": "white"}
        _marks(axis, single, of, scale, "o-", f"{label}: one layer", **fill)
        _marks(axis, third, of, scale, "D", f"{label}: last third", markersize=8, **fill)
    if (chosen := findings.recommended) is not None:
        place = 100 * chosen.cost.of_prefill, scale * of(chosen).value
        ring = {"markersize": 16, "markerfacecolor": "none", "color": "black"}
        axis.plot(*place, "o", label="recommended", **ring)


def _marks(
    axis: Any,
    found: Sequence[Found],
    of: Callable[[Found], Estimate],
    scale: float,
    mark: str,
    label: str,
    **style: Any,
) -> None:
    ordered = sorted(found, key=lambda one: one.cost.of_prefill)
    x = [100 * one.cost.of_prefill for one in ordered]
    y = [scale * of(one).value for one in ordered]
    if not ordered:
        return
    colour = _COLOURS.get(ordered[0].setting.guide, "black")
    axis.plot(x, y, mark, color=colour, label=label, linewidth=1, **style)


def _bar(axis: Any, one: Found, found: Estimate, scale: float) -> None:
    if found.interval is None:
        return
    x = 100 * one.cost.of_prefill
    low, high = (scale * end for end in found.interval)
    colour = _COLOURS.get(one.setting.guide, "black")
    axis.plot([x, x], [low, high], color=colour, alpha=0.35, linewidth=1.2)
