"""The results of a sweep in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tokenprune import checkpoints
from tokenprune.results.columns import named
from tokenprune.results.table import terminal
from tokenprune.results.wording import percent
from tokenprune.study.findings import fewest, out_of_reach, sets
from tokenprune.study.results import TOLERANCE
from tokenprune.study.run import Swept
from tokenprune.study.table import OK, Line

_COLUMNS = named(
    "method",
    "keep_requested",
    "layer_average_ratio",
    "flops_ratio",
    "score",
    "to_vanilla",
    "to_random",
)


def swept(done: Swept) -> RenderableType:
    """Everything `tokenprune sweep` prints at the end."""
    budgets = [line["tokens_per_frame"] for line in done.lines]
    following = enumerate(pairwise(budgets))
    sections = [place for place, (tokens, after) in following if tokens != after]
    table = terminal([_shown(line) for line in done.lines], _COLUMNS, sections=sections)
    notes = [Text(line, style="dim", overflow="fold") for line in _notes(done)]
    return Group(table, *notes, Text(_where(done), overflow="fold"))


def _shown(line: Line) -> dict[str, Any]:
    """A line with what its numbers do not say."""
    shown = dict(line)
    if line["status"] != OK:
        shown["score"] = line["status"]
    elif line["errors"]:
        (column,) = named("score")
        shown["score"] = f"{' '.join(column.text(line).split())} ({line['errors']} failed)"
    if line["off_budget"]:
        shown["layer_average_ratio"] = f"{percent(line['layer_average_ratio'])}!"
    return shown


def _notes(done: Swept) -> Iterator[str]:
    """What the table cannot say, and how to read it."""
    results = done.results
    yield (
        "All in %. Score: mean over categories. Differences are paired by sample. "
        "A keep is rounded to whole tokens per frame, the same for all: "
        f"{', '.join(map(str, results.budgets))} of {results.cells}."
    )
    if any(row.cell.pipeline and row.cell.pipeline.allocator for row in results.rows):
        yield "FLOPs count the pass of an allocator's guide over all tokens."
    if any(row.off_budget for row in results.rows):
        yield (
            f"! measured tokens are more than {100 * TOLERANCE:g} points off the budget that was "
            "asked for."
        )
    for cell in results.missing:
        yield f"{cell.method} at keep={cell.requested:g}: {cell.reason}"
    if results.told:
        yield (
            "Intervals: 95 %. * marks a difference after Holm's correction for the number of "
            f"comparisons {sets(results)}.".replace("`", "")
        )
    else:
        yield f"{fewest(results)}."
    if results.told and results.out_of_reach:
        yield out_of_reach(results)
    if (note := checkpoints.note(done.config.model, done.config.assistant)) is not None:
        yield note


def _where(done: Swept) -> str:
    config, place = done.config, done.environment
    return (
        f"model {config.model} ({place['dtype']} on {place['device']}), {done.results.samples} "
        f"samples of {config.task}, {config.frames} frames each\n"
        f"Results in {done.folder}: results.csv, results.parquet, score_over_tokens.png, "
        "score_over_flops.png"
    )
