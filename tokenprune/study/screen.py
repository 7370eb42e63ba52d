"""The results of a study or sweep in the terminal, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from tokenprune import checkpoints
from tokenprune.results.columns import named
from tokenprune.results.table import terminal
from tokenprune.results.wording import percent
from tokenprune.study import phrases
from tokenprune.study.findings import fewest, out_of_reach, sets, too_many
from tokenprune.study.headline import summary
from tokenprune.study.page import WIDTH
from tokenprune.study.results import TOLERANCE
from tokenprune.study.run import Studied, Swept
from tokenprune.study.table import OK, UNREACHABLE, Line

_COLUMNS = named(
    "method",
    "layer_average_ratio",
    "score",
    "to_vanilla",
    "to_random",
)


def studied(done: Studied) -> RenderableType:
    """What `tokenprune study` prints at the end: the page says the rest."""
    lines = [*summary(done.results), f"wrote {done.page}"]
    return Constrain(
        Group(*(Text(line.replace("`", ""), overflow="fold") for line in lines)), WIDTH
    )


def swept(done: Swept) -> RenderableType:
    """Everything `tokenprune sweep` prints at the end."""
    shown = [line for line in done.lines if line["status"] != UNREACHABLE]
    budgets = [line["tokens_per_frame"] for line in shown]
    following = enumerate(pairwise(budgets))
    sections = [place for place, (tokens, after) in following if tokens != after]
    table = terminal([_shown(line) for line in shown], _COLUMNS, sections=sections)
    table.columns[0].no_wrap = False  # a method has as many options as it is given
    table.columns[0].overflow = "fold"
    notes = [Text(line.replace("`", ""), style="dim", overflow="fold") for line in _notes(done)]
    return Constrain(Group(table, *notes, Text(_where(done), overflow="fold")), WIDTH)


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
    asked = {cell.tokens: phrases.percents(cell.requested) for cell in done.cells[1:]}
    kept = (f"{share} % is {tokens} of {results.cells}" for tokens, share in asked.items())
    yield (
        "All in %. Score: mean over categories. Differences are paired by sample. Keeps are "
        f"rounded to whole tokens per frame: {', '.join(kept)}."
    )
    if any(row.off_budget for row in results.rows):
        yield f"! measured tokens are more than {100 * TOLERANCE:g} points off the budget."
    yield from out_of_reach(results)
    for cell in results.failed:
        yield f"{cell.method} at keep={cell.requested:g}: {cell.reason}."
    if results.told:
        yield (
            "Intervals: 95 %. * marks a difference after Holm's correction for the number of "
            f"comparisons: {sets(results)}."
        )
    else:
        yield f"{fewest(results)}."
    if results.told and results.too_many:
        yield too_many(results)
    if (note := checkpoints.note(done.config.model, done.config.assistant)) is not None:
        yield note


def _where(done: Swept) -> str:
    config, place = done.config, done.environment
    return (
        f"model {config.model} ({place['dtype']} on {place['device']}), {done.results.samples} "
        f"samples of {config.task}, {config.frames} frames each\n"
        f"Results, FLOPs among them, in {done.folder}: results.csv, results.parquet, "
        "score_over_tokens.png, score_over_flops.png"
    )
