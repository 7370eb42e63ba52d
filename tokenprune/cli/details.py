"""Every figure of a run in the terminal, as `details=true` asks for: the tables of `report.md`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune.cli.clip import answers, frames
from tokenprune.evaluation.run import Finished
from tokenprune.results import table
from tokenprune.results.breakdown import by_category, own_figures
from tokenprune.results.columns import shown
from tokenprune.results.notes import against_random, legend, remarks
from tokenprune.results.summary import Summary

_LEFT_OUT = ("to_random", "share_of_vanilla")  # a sentence says the one, the other is in files


def details(finished: Finished, width: int) -> RenderableType:
    """For a terminal of `width` characters."""
    summary = finished.summary
    parts: list[RenderableType] = []
    if summary.setting.video is not None:
        parts += [answers(finished), frames(finished)]
    meanings = " ".join(legend(summary))
    parts += [_figures(summary, width), Text(meanings, style="dim", overflow="fold")]
    if len(summary.categories) > 1:
        parts.append(table.terminal(*by_category(summary)))
    if summary.metrics:
        parts.append(table.terminal(*own_figures(summary)))
    told = [against_random(summary), *remarks(summary), _where(finished), summary.setting.note]
    parts += [Text(line, overflow="fold") for line in told if line]
    return Group(*parts)


def _figures(summary: Summary, width: int) -> Table:
    """A row for each system or, where that is too wide, a column."""
    rows = [system.as_dict() for system in summary.systems.values()]
    columns = [column for column in shown(rows) if column.name not in _LEFT_OUT]
    across = table.terminal(rows, columns)
    if table.fits(across, width):
        return across
    return table.terminal(rows, columns, upright=True)


def _where(finished: Finished) -> str:
    summary, setting = finished.summary, finished.summary.setting
    place = summary.environment
    asked = f"{summary.samples} samples of {setting.task}"
    full = summary.subject.measured["full"]
    tokens = "" if full is None else f", {full:.0f} visual tokens uncompressed"
    return (
        f"model {setting.model} ({place['dtype']} on {place['device']}), "
        f"{asked if setting.task else f'video {setting.video}'}, {setting.frames} frames each"
        f"{tokens}.\nResults in {finished.folder}"
    )
