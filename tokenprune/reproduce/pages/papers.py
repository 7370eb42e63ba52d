"""A paper's page, from its files and from figures of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tokenprune
from tokenprune.options import as_typed
from tokenprune.reproduce import wording
from tokenprune.reproduce.cell import NOT_PRINTED, SIGNS, STATUSES, Cell, Found, Key
from tokenprune.reproduce.cells import cells, counted
from tokenprune.reproduce.files import read_paper, read_table
from tokenprune.reproduce.grids.grid import Grid
from tokenprune.reproduce.pages import pictures, ranks
from tokenprune.reproduce.pages.analogues import analogue_view
from tokenprune.reproduce.pages.tables import table_view
from tokenprune.reproduce.pages.views import Lines, PaperView, ProtocolView, Share, TableView
from tokenprune.reproduce.protocol import Protocol, protocols, read_protocol
from tokenprune.reproduce.schema import SOURCES, Paper, Table

# chat templates as text, since those that are used load transformers
PROMPTS = {
    "qwen_1_5": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<video>\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )
}
Ours = Callable[[str], Mapping[Key, Found]]
Grids = Callable[[str], Grid | None]
_KINDS = {
    "analytic": "analytic figures",
    "derived": "derived figures",
    "score": "scores",
    "judged": "judged scores",
    "speed": "figures of time, memory or cost",
    "text": "texts",
}


def paper_view(name: str, ours: Ours, grids: Grids, folder: Path) -> PaperView:
    """`folder` is where the page will lie: pictures are in its `images`.

    Raises ConfigError.
    """
    paper = read_paper(name)
    tables = {f"{name}/{table}": read_table(f"{name}/{table}") for table in paper.tables}
    made = {id_: cells(table, ours(id_)) for id_, table in tables.items()}
    known = {id_: grids(id_) for id_ in tables}
    every = [cell for one in made.values() for cell in one]
    return PaperView(
        name=name,
        title=paper.title,
        facts=_facts(paper, every, [grid for grid in known.values() if grid is not None]),
        protocols=[_protocol(one) for one in sorted(_protocols(tables))],
        summary=[*_summary(every)],
        shares=_shares(every),
        results=ranks.results(name, tables, {id_: ranks.listed(one) for id_, one in made.items()}),
        tables=[_table(id_, tables[id_], made[id_], known[id_], folder) for id_ in tables],
        prompts=_prompts(every),
        runs=_runs(every),
        remarks=paper.remarks,
        made_by=f"tokenprune {tokenprune.__version__}",
    )


def _table(
    id_: str, table: Table, made: Sequence[Cell], grid: Grid | None, folder: Path
) -> TableView:
    shown = pictures.images(folder, id_)
    if grid is None:
        return table_view(id_, table, made, samples(table), shown)
    return table_view(id_, table, made, samples(table), (), analogue_view(grid, shown))


def samples(table: Table) -> dict[str, int]:
    """Behind each column of scores, as the protocol has them; without those that are not known."""
    if table.protocol is None or table.protocol not in protocols():
        return {}
    tasks = read_protocol(table.protocol).tasks
    found = {
        name: column.n or (tasks[column.task].n if column.task in tasks else 0)
        for name, column in table.columns.items()
    }
    return {name: number for name, number in found.items() if number}


def _protocols(tables: Mapping[str, Table]) -> set[str]:
    here = protocols()
    named = {table.protocol for table in tables.values() if table.protocol is not None}
    return {name for name in named if name in here}


def _protocol(name: str) -> ProtocolView:
    one: Protocol = read_protocol(name)
    rows = [
        [item.about, item.papers, item.settled, "yes" if item.followed else "no"]
        for item in one.items
    ]
    return ProtocolView(
        name=name,
        title=one.title,
        digest=one.digest,
        words=" ".join(f"{key}={as_typed(value)}" for key, value in one.words.items()),
        prompt=PROMPTS.get(str(one.words.get("template")), ""),
        items=Lines(["item", "in the paper", "here", "as in the paper"], rows),
    )


def _facts(paper: Paper, every: Sequence[Cell], grids: Sequence[Grid]) -> list[tuple[str, str]]:
    code = ", ".join(filter(None, [paper.code, paper.revision, paper.licence]))
    facts = [
        ("paper", paper.link),
        ("code", code),
        ("ours to test", paper.scope),
        ("our figures", _where(every, grids)),
        ("made by", f"tokenprune {tokenprune.__version__}"),
    ]
    return [(name, value) for name, value in facts if value]


def _where(every: Sequence[Cell], grids: Sequence[Grid]) -> str:
    """Machines, days and revisions of what was measured here."""
    found = {
        (cell.found.machine, cell.found.date, cell.found.revision or "")
        for cell in every
        if cell.found is not None
    }
    found |= {(grid.machine, grid.date, grid.revision or "") for grid in grids}
    told = [", ".join(filter(None, [where, when, how[:12]])) for where, when, how in sorted(found)]
    return "; ".join(told) or "none yet that need a run: weights and data are not here"


def _summary(every: Sequence[Cell]) -> list[str]:
    """A sentence for each kind of figure that is printed."""
    found = []
    for kind in SOURCES:
        mine = [cell for cell in every if cell.column.from_ == kind and cell.status != NOT_PRINTED]
        if mine:
            found.append(f"{len(mine):,} {_KINDS[kind]}: {wording.summed(counted(mine))}.")
    return found


def _shares(every: Sequence[Cell]) -> list[Share]:
    counts = Counter(cell.status for cell in every if cell.status != NOT_PRINTED)
    total = sum(counts.values()) or 1
    return [
        Share(
            status,
            SIGNS[status],
            counts[status],
            round(100 * counts[status] / total, 2),
            wording.MEANINGS[status],
        )
        for status in STATUSES
        if counts[status]
    ]


def _prompts(every: Sequence[Cell]) -> list[tuple[str, str]]:
    """The first prompt of every task as it was sent, of runs that recorded it."""
    found: dict[str, str] = {}
    for cell in every:
        if cell.found is not None and (sent := cell.found.settings.get("prompt")):
            found.setdefault(cell.column.task, str(sent))
    return sorted(found.items())


def _runs(every: Sequence[Cell]) -> Lines | None:
    """One line for every run that a figure of ours is from."""
    rows: dict[str, list[str]] = {}
    for cell in every:
        one = cell.found
        if one is None:
            continue
        numbers = (one.errors, one.guessed, one.unparsed, one.empty, one.read_otherwise)
        rows[one.run or one.folder] = [
            cell.row.label,
            cell.column.task or cell.column.measure,
            f"{one.n:,} of {one.of:,}" if one.of else "-",
            *("-" if number is None else str(number) for number in numbers),
            one.judge or "-",
            one.machine,
            one.date,
            one.folder,
        ]
    heads = ["row", "task", "samples", "errors", "guessed", "unparsed", "empty"]
    more = ["read otherwise today", "judge", "machine", "date", "folder"]
    return Lines([*heads, *more], list(rows.values())) if rows else None
