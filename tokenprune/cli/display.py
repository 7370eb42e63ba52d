"""The results of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.evaluation.run import Finished
from tokenprune.results import table
from tokenprune.results.answer import RANDOM, Answer, subject_of
from tokenprune.results.column import Column
from tokenprune.results.columns import shown
from tokenprune.results.notes import legend, remarks
from tokenprune.results.summary import Summary
from tokenprune.results.wording import percent

_UNBOUNDED = 10_000  # characters, more than any table takes
_BAR = 40  # characters of a whole frame
_LEFT_OUT = ("to_random", "share_of_vanilla")  # a sentence says the one, the other is in files


def results(finished: Finished, width: int) -> RenderableType:
    """Everything `tokenprune run` prints at the end, for a terminal of `width` characters."""
    summary = finished.summary
    parts: list[RenderableType] = []
    if summary.setting.video is not None:
        parts += [_answers(finished), _frames(finished)]
    parts += [_figures(summary, width), Text(legend(summary), style="dim", overflow="fold")]
    if len(summary.categories) > 1:
        parts.append(_categories(summary))
    if summary.metrics:
        parts.append(_metrics(summary))
    parts += [Text(line, overflow="fold") for line in remarks(summary)]
    parts.append(Text(_where(finished), overflow="fold"))
    if summary.setting.note is not None:
        parts.append(Text(summary.setting.note, style="dim"))
    return Group(*parts)


def _figures(summary: Summary, width: int) -> Table:
    """A row for each system or, where that is too wide, a column."""
    rows = [system.as_dict() for system in summary.systems.values()]
    columns = [column for column in shown(rows) if column.name not in _LEFT_OUT]
    across = table.terminal(rows, columns)
    fits = Console(width=_UNBOUNDED).measure(across).maximum <= width
    return across if fits else table.terminal(rows, columns, upright=True)


def _categories(summary: Summary) -> Table:
    """What suffers: a row per category, a column per system; scores only, so it stays narrow."""
    columns = [
        Column("category", "score by category", "", str),
        *(Column(role, one.label, "") for role, one in summary.systems.items()),
        Column("samples", "samples", "", int),
    ]
    rows = []
    for name, category in summary.categories.items():
        scores = {role: percent(score.value) for role, score in category.scores.items()}
        rows.append({"category": name, "samples": category.samples, **scores})
    return table.terminal(rows, columns)


def _metrics(summary: Summary) -> Table:
    """A benchmark's own figures, as it reports them."""
    roles = [role for role in summary.systems if role in summary.metrics]
    columns = [
        Column("name", "the benchmark's own figures", "", str),
        *(Column(role, summary.systems[role].label, "") for role in roles),
    ]
    names = dict.fromkeys(name for role in roles for name in summary.metrics[role])
    rows = []
    for name in names:
        figures = {role: summary.metrics[role].get(name) for role in roles}
        rows.append({"name": name, **{role: _figure(value) for role, value in figures.items()}})
    return table.terminal(rows, columns)


def _figure(value: Any) -> str:
    """Whatever a benchmark reports."""
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _where(finished: Finished) -> str:
    summary, setting, place = (
        finished.summary,
        finished.summary.setting,
        finished.summary.environment,
    )
    asked = (
        f"{summary.samples} samples of {setting.task}" if setting.task else f"video {setting.video}"
    )
    full = summary.subject.measured["full"]
    tokens = "" if full is None else f", {full:.0f} visual tokens uncompressed"
    return (
        f"model {setting.model} ({place['dtype']} on {place['device']}), {asked}, "
        f"{setting.frames} frames each{tokens}.\nResults in {finished.folder}"
    )


def _answers(finished: Finished) -> Table:
    """The full and the compressed model side by side."""
    title = f"Q: {finished.summary.setting.question}"
    grid = Table(box=SIMPLE_HEAD, title=Text(title), title_justify="left")
    told = []
    for system in finished.systems:
        if system.name == RANDOM and len(finished.systems) > 2:
            continue
        figures = finished.summary.systems[system.name].measured
        kept = percent(figures["layer_average_ratio"]) or "-"
        grid.add_column(Text(f"{system.label} ({kept} % of visual tokens)"), overflow="fold")
        told.append(Text(system.answers[0].error or system.answers[0].prediction))
    grid.add_row(*told)
    return grid


def _frames(finished: Finished) -> RenderableType:
    """A bar per frame: the tokens that reached the last layer."""
    tokens = _subject(finished)[0].tokens
    if not tokens:  # it could not be evaluated
        return Text()
    frames = tokens["kept_per_frame"]
    cells = tokens["full"] // len(frames)
    lines = [f"tokens kept per frame, of {cells}"]
    for number, kept in enumerate(frames):
        filled = round(_BAR * kept / cells)
        lines.append(f"  frame {number + 1:>3}  {'█' * filled}{'░' * (_BAR - filled)} {kept:>4}")
    return Text("\n".join(lines))


def _subject(finished: Finished) -> Sequence[Answer]:
    """The answers of the system that the run is about."""
    by_name = {system.name: system.answers for system in finished.systems}
    return by_name[subject_of(by_name)]
