"""The results of a sweep in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokenprune import checkpoints
from tokenprune.results.wording import difference, percent, score
from tokenprune.study.findings import fewest, out_of_reach, sets
from tokenprune.study.plan import VANILLA, Cell
from tokenprune.study.results import TOLERANCE, Row
from tokenprune.study.run import Swept

_HEADING = (
    "strategy",
    "keep\nasked",
    "layer avg\ntokens",
    "FLOPs\nprefill",
    "score",
    "- vanilla",
    "- random",
)
_SCORE = _HEADING.index("score")


def swept(done: Swept, width: int) -> RenderableType:
    """Everything `tokenprune sweep` prints at the end, for a terminal of `width` characters."""
    table = Table(box=SIMPLE_HEAD)
    for number, heading in enumerate(_HEADING):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    rows = {row.cell.slug: row for row in done.results.rows}
    if any(row.macro.interval for row in rows.values()):
        table.columns[_SCORE].header = f"{_HEADING[_SCORE]} [95 %]"
    before = None
    for cell in done.grid.cells:
        if before is not None and cell.tokens != before:
            table.add_section()
        before = cell.tokens
        row = rows.get(cell.slug)
        missing = "unreachable" if cell.pipeline is None else "failed"
        told = _numbers(row) if row else ["-", "-", Text(missing, style="yellow"), "", ""]
        table.add_row(Text(cell.method), percent(_asked(done, cell)), *told)
    notes = [Text(line, style="dim", overflow="fold") for line in _notes(done)]
    return Group(table, *notes, Text(_where(done), overflow="fold"))


def _asked(done: Swept, cell: Cell) -> float:
    return 1.0 if cell.method == VANILLA else done.grid.asked[cell.tokens]


def _numbers(row: Row) -> list[Text | str]:
    failed = f" ({row.errors} failed)" if row.errors else ""
    return [
        Text(
            percent(row.measured) + ("!" if row.off_budget else ""),
            style="yellow" if row.off_budget else "",
        ),
        percent(row.flops),
        Text(score(row.macro) + failed),
        *(Text(difference(found)) for found in (row.to_vanilla, row.to_control)),
    ]


def _notes(done: Swept) -> Iterator[str]:
    """What the table cannot say, and how to read it."""
    results, cells = done.results, done.results.vanilla.cell.extent.cells
    yield (
        "All in %. Score: mean over families. Differences are paired by sample. "
        "A keep is rounded to whole tokens per frame, the same for all: "
        f"{', '.join(map(str, results.budgets))} of "
        f"{cells}."
    )
    if any(row.cell.pipeline and row.cell.pipeline.allocator for row in results.rows):
        yield "FLOPs count the pass of an allocator's guide over all tokens."
    if any(row.off_budget for row in results.rows):
        yield (
            f"! measured tokens are more than {100 * TOLERANCE:g} points off the budget that was "
            "asked for."
        )
    for cell in results.missing:
        yield f"{cell.method} at keep={_asked(done, cell):g}: {cell.reason}"
    if results.told:
        yield (
            "Intervals: 95 %. * marks a difference after Holm's correction for the number of "
            "comparisons "
            f"{sets(results)}.".replace("`", "")
        )
    else:
        yield f"{fewest(results)}."
    if results.told and results.out_of_reach:
        yield out_of_reach(results)
    if (note := checkpoints.note(done.config.model, done.config.assistant)) is not None:
        yield note


def _where(done: Swept) -> str:
    config, made = done.config, done.made_with
    return (
        f"model {config.model} ({made['dtype']} on {made['device']}), {done.results.samples} "
        f"samples of {config.task}, "
        f"{config.frames} frames each\n"
        f"Results in {done.folder}: results.csv, results.parquet, score_over_tokens.png, "
        "score_over_flops.png"
    )
