"""A run's figures as the page has them: the table of its systems, categories, and plots."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tokenprune.results.answer import ROLES, subject_of
from tokenprune.results.column import Column
from tokenprune.results.columns import shown
from tokenprune.results.read import Run
from tokenprune.results.report import sections
from tokenprune.results.statistics import Estimate
from tokenprune.results.summary import Summary
from tokenprune.results.wording import score

_PARTS = ("vision", "strategy", "probe", "prefill")  # of an answer's time, in order
WIDE, TALL = 480, 150  # of a plot's view box


class Line(NamedTuple):
    """One property of all systems."""

    name: str
    unit: str
    cells: list[str]
    meaning: str


def properties(summary: Summary) -> dict[str, list[Line]]:
    """Every column that any system has, by subject, upright: a column for each system."""
    rows = [system.as_dict() for system in summary.systems.values()]
    _, *columns = shown(rows)
    return {
        title: [_line(column, rows) for column in own] for title, own in sections(columns).items()
    }


def _line(column: Column, rows: Sequence[Mapping[str, Any]]) -> Line:
    heading, *rest = column.title(rows).split("\n")
    unit = rest.pop() if rest and rest[-1] in (column.unit, "[95 %]") else ""
    name = " ".join([heading, *rest])
    return Line(name, unit, [column.text(row) for row in rows], column.meaning)


class Dot(NamedTuple):
    """A score with its interval, as per cents of a track."""

    role: str
    value: float
    low: float | None
    high: float | None
    words: str


class Track(NamedTuple):
    """Scores of all systems side by side."""

    name: str
    samples: int
    dots: list[Dot]


def categories(summary: Summary) -> list[Track]:
    """A track for each category."""
    return [
        Track(name, one.samples, [_dot(role, found) for role, found in one.scores.items()])
        for name, one in summary.categories.items()
    ]


def overall(summary: Summary) -> list[tuple[str, Dot]]:
    """Each system's label and score, where answers have one."""
    return [
        (system.label, _dot(role, system.score))
        for role, system in summary.systems.items()
        if system.score is not None
    ]


def _dot(role: str, found: Estimate) -> Dot:
    low, high = found.interval or (None, None)
    scaled = [None if value is None else 100 * value for value in (low, high)]
    return Dot(role, 100 * found.value, scaled[0], scaled[1], score(found))


class Part(NamedTuple):
    """A part of an answer's time."""

    name: str
    ms: float
    share: float  # per cent of the longest answer of all systems


class Time(NamedTuple):
    """Where one system's time goes."""

    label: str
    ms: float
    parts: list[Part]


def times(summary: Summary) -> list[Time]:
    """Medians by system; what no part is of, decoding most of all, is the last part."""
    known = {
        system.label: system.measured
        for system in summary.systems.values()
        if system.measured.get("answer_ms")
    }
    longest = max((float(one["answer_ms"] or 0) for one in known.values()), default=0.0)
    found = []
    for label, measured in known.items():
        whole = float(measured["answer_ms"] or 0)
        own = {name: float(measured.get(f"{name}_ms") or 0) for name in _PARTS}
        # medians of parts need not add up to the median of the whole
        own["decoding and the rest"] = max(0.0, whole - sum(own.values()))
        parts = [Part(name, ms, 100 * ms / longest) for name, ms in own.items() if ms > 0]
        found.append(Time(label, whole, parts))
    return found


class Curve(NamedTuple):
    """One system's line of a plot."""

    role: str
    label: str
    path: str
    words: str


class Plot(NamedTuple):
    """Lines over frames, layers or steps, in per cent."""

    title: str
    curves: list[Curve]
    ends: tuple[str, str]


def plots(run: Run) -> Iterator[Plot]:
    """Means over samples: kept tokens by frame of the video, and by layer of the model."""
    by_frame = {role: _mean(_frames(run, role)) for role in run.roles}
    by_layer = {role: _mean(_layers(run, role)) for role in run.roles}
    subject = subject_of(run.roles)
    if values := by_frame[subject]:
        yield _plot(run, "Kept of each frame, mean over samples", by_frame, ("1", str(len(values))))
    if values := by_layer[subject]:
        ends = ("layer 0", str(len(values) - 1))
        yield _plot(run, "Tokens that each layer sees, mean over samples", by_layer, ends)


def _frames(run: Run, role: str) -> Iterator[list[float]]:
    for tokens in _measured(run, role):
        cells = [high * wide for frames, high, wide in tokens["videos"] for _ in range(frames)]
        counts = tokens["kept_per_frame"]
        yield [100 * kept / cell for kept, cell in zip(counts, cells, strict=True)]


def _layers(run: Run, role: str) -> Iterator[list[float]]:
    for tokens in _measured(run, role):
        yield [100 * seen / tokens["full"] for seen in tokens["kept_per_layer"]]


def _measured(run: Run, role: str) -> Iterator[Mapping[str, Any]]:
    yield from (record[role]["tokens"] for record in run.records if record[role]["tokens"])


def _mean(lines: Iterator[list[float]]) -> list[float]:
    """Place by place; nothing where lines differ in length."""
    known = list(lines)
    if not known or len({len(line) for line in known}) > 1 or len(known[0]) < 2:
        return []
    return [statistics.fmean(values) for values in zip(*known, strict=True)]


def _plot(
    run: Run, title: str, lines: Mapping[str, Sequence[float]], ends: tuple[str, str]
) -> Plot:
    curves = []
    for role in ROLES:
        if values := lines.get(role):
            label = run.summary.systems[role].label
            curves.append(Curve(role, label, _path(values), _words(values)))
    return Plot(title, curves, ends)


def _path(values: Sequence[float]) -> str:
    wide = WIDE / (len(values) - 1)
    places = enumerate(values)
    return "M" + "L".join(
        f"{wide * place:.4g} {TALL * (1 - value / 100):.4g}" for place, value in places
    )


def _words(values: Sequence[float]) -> str:
    least, most = f"{min(values):.1f}", f"{max(values):.1f}"
    if least == most:
        return f"{most} % everywhere"
    return f"{least} to {most} %, mean {statistics.fmean(values):.1f} %"
