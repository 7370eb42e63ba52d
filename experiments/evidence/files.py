"""The experiment's figures as a table, and as one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.evidence.cases import CONTROL
from experiments.evidence.effects import STEPS, Dosed, Effect
from experiments.evidence.page import Findings
from experiments.lines import csv_of
from tokenprune.results.column import estimate_fields, paired_fields

# Okabe and Ito's colours, which stay apart for colour-blind readers
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"  # of methods alone; what has an allocator is hollow


def as_csv(findings: Findings) -> str:
    """A line per system and budget; a `dose` has an `asked` share of the evidence."""
    return csv_of(_lines(findings))


def _lines(findings: Findings) -> Iterator[dict[str, Any]]:
    for baseline in findings.baselines:
        budget = baseline.control.budget
        yield {"budget": budget, "system": CONTROL, "asked": None, **_measured(baseline)}
        for dosed in (*findings.spread(baseline), *findings.together(baseline)):
            name = "dose in few frames" if dosed.dose.together else "dose"
            line = {"budget": budget, "system": name, "asked": dosed.dose.share}
            yield line | _measured(dosed)
        for effect in findings.effects_at(baseline):
            line = {"budget": budget, "system": effect.case.own.label, **_measured(effect)}
            for step in STEPS:
                line |= paired_fields(step, effect.steps[step])
            yield line


def _measured(one: Any) -> dict[str, Any]:
    """What is kept under it, and what it scores."""
    return {**vars(one.kept), **estimate_fields("score", one.score)}


def draw(findings: Findings, file: Path) -> None:
    """Score over the share of evidence that is kept: a panel per budget.

    The lines are what evidence alone does; how far a method lies off them is due to something else.
    """
    from matplotlib.figure import Figure

    panels = len(findings.baselines)
    figure = Figure(figsize=(4.2 * panels + 2.2, 4.2), layout="constrained")
    axes: Sequence[Any] = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axis, baseline in zip(axes, findings.baselines, strict=True):
        if findings.found.full is not None:
            full = findings.average(findings.found.full.scores)
            axis.axhline(100 * full, color="0.45", linewidth=1, label="full model")
        _line(axis, findings.spread(baseline), "-", "evidence set, all frames")
        _line(axis, findings.together(baseline), "--", "evidence set, few frames")
        _methods(axis, findings.effects_at(baseline))
        axis.plot(*_point(baseline), "X", color="black", markersize=9, label=CONTROL)
        axis.set_title(f"{100 * baseline.control.budget:.1f} % of the tokens", fontsize=10)
        axis.set_xlabel("evidence that is kept, %")
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("macro-average score, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    figure.savefig(file, dpi=130, metadata={"Software": None})


def _line(axis: Any, doses: Sequence[Dosed], dash: str, label: str) -> None:
    """With a band where there are intervals."""
    points = [_point(dosed) for dosed in doses]
    known = [(x, dosed.score.interval) for (x, _), dosed in zip(points, doses, strict=True)]
    places = [x for x, interval in known if interval]
    low, high = ([100 * interval[end] for _, interval in known if interval] for end in (0, 1))
    axis.fill_between(places, low, high, color="black", alpha=0.1, linewidth=0)
    axis.plot(*zip(*points, strict=True), dash, color="black", marker=".", label=label)


def _methods(axis: Any, effects: Sequence[Effect]) -> None:
    labels = [effect.case.own.label for effect in effects]
    names = list(dict.fromkeys(label.partition("+")[0] for label in labels))
    for label, effect in zip(labels, effects, strict=True):
        name, plus, _ = label.partition("+")
        place = names.index(name)
        colour = _COLOURS[place % len(_COLOURS)]
        marker = _MARKERS[place % len(_MARKERS)]
        fill = "none" if plus else colour
        axis.plot(*_point(effect), marker, color=colour, markerfacecolor=fill, label=label)


def _point(one: Any) -> tuple[float, float]:
    return 100 * one.kept.evidence, 100 * one.score.value
