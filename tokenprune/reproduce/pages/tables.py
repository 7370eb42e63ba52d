"""A table of a paper as its page shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tokenprune.options import as_typed
from tokenprune.reproduce import wording
from tokenprune.reproduce.cell import BLOCKED, EXACT, SHOWN, SIGNS, Cell, Key
from tokenprune.reproduce.cells import counted
from tokenprune.reproduce.commands import command, missing
from tokenprune.reproduce.pages import comparisons, ranks
from tokenprune.reproduce.pages.pictures import PRINTED
from tokenprune.reproduce.pages.views import AnalogueView, CellView, Image, RowView, TableView
from tokenprune.reproduce.rounding import seconds
from tokenprune.reproduce.schema import Row, Run, Table
from tokenprune.reproduce.verdict import grey


def anchor(id_: str) -> str:
    """Where a table stands on its paper's page."""
    return id_.replace("/", "-").replace("_", "-")


def table_view(
    id_: str,
    table: Table,
    made: Sequence[Cell],
    n: Mapping[str, int],
    images: Sequence[Image] = (),
    analogue: AnalogueView | None = None,
) -> TableView:
    """`n`: samples behind the columns of scores, where they are known."""
    faint = grey(table, made)
    by_place = ranks.listed(made)
    return TableView(
        id=id_,
        anchor=anchor(id_),
        title=table.title,
        source=table.source,
        notes=_notes(table),
        heads=[head(table, name) for name in table.columns],
        rows=[_row(table, row, by_place, faint) for row in table.rows],
        told=wording.summed(counted(made)),
        banner=_banner(table, faint),
        effects=comparisons.effects(table, made),
        orders=comparisons.ordered(table, made, n),
        speeds=[*wording.machines(made), *wording.ratios(table, made)],
        claims=comparisons.claims(table, made, n, analogue),
        slips=wording.slips(made),
        blocked=_blocked(made),
        commands=missing(id_, table, made),
        every=command(id_, "plan=true"),
        images=list(images),
        figure=_figure(id_, table),
        analogue=analogue,
        remarks=list(table.remarks),
    )


def head(table: Table, name: str) -> str:
    """`FLOPs, T`."""
    column = table.columns[name]
    return ", ".join(filter(None, [column.label or name, column.unit]))


def _row(table: Table, row: Row, by_place: Mapping[Key, Cell], faint: set[Key]) -> RowView:
    cells = [shown(by_place[row.label, name], (row.label, name) in faint) for name in table.columns]
    return RowView(
        name=row.label,
        cells=cells,
        settings=", ".join(f"{key} {as_typed(value)}" for key, value in row.settings.items()),
        run="" if row.run is None else words(table, row, row.run),
        assumed="" if row.run is None else row.run.because,
        blocked="" if row.blocked is None else f"{row.blocked.why} ({row.blocked.kind})",
        repeats=row.same_as or "",
        note=", ".join(filter(None, [row.note, row.provenance or ""])),
    )


def words(table: Table, row: Row, run: Run) -> str:
    """`strategy=dycoke dycoke.merge=0.7 ...`, as `tokenprune run` takes it."""
    found: dict[str, Any] = {"strategy": run.strategy, **run.options}
    if run.plugin is not None:
        found["plugin"] = f"experiments/{table.paper}/{run.plugin}"
    model = run.model or table.setting(row, "model")
    found["model"] = table.models.get(str(model), model)
    if run.assistant is not None:
        found["assistant"] = table.models.get(run.assistant, run.assistant)
    found["frames"] = run.frames or table.setting(row, "frames")
    return " ".join(f"{key}={as_typed(value)}" for key, value in found.items() if value is not None)


def shown(cell: Cell, faint: bool) -> CellView:
    """A cell; `faint`: its level says nothing, since our full model deviates."""
    printed, sign = wording.figure(cell.printed, cell.column), SIGNS[cell.status]
    if cell.mine is not None:  # the sign is about the printed figure, not about ours
        printed, sign = f"{printed} {sign}".strip(), ""
    return CellView(
        printed=printed,
        ours=_ours(cell),
        delta=_delta(cell),
        status=cell.status,
        sign=sign,
        value=_sorted_by(cell.printed),
        why=cell.why,
        grey=faint,
    )


def _ours(cell: Cell) -> str:
    value = cell.mine if cell.mine is not None else (cell.ours[0] if cell.ours else None)
    if value is None or (cell.status == EXACT and cell.mine is None):
        return ""
    return wording.mine(value, cell.column)


def _delta(cell: Cell) -> str:
    """None beside a figure that was measured on other hardware."""
    return wording.difference(cell) if cell.found is not None and cell.status != SHOWN else ""


def _sorted_by(printed: Any) -> float | None:
    """What a column is sorted by; text is sorted as text."""
    if printed is None or (isinstance(printed, str) and not printed.replace(":", "").isdigit()):
        return None
    value = seconds(printed)
    return value if math.isfinite(value) else None


def _notes(table: Table) -> list[str]:
    found = []
    if table.provenance != "paper":
        found.append(f"Provenance: {table.provenance}.")
    if table.protocol is None and any(one.task for one in table.columns.values()):
        found.append("Which harness and prompts were used is not recorded.")
    if table.hardware:
        found.append(f"Time and memory: {table.hardware}.")
    return found


def _banner(table: Table, faint: set[Key]) -> str:
    """That levels say nothing where our full model is not the printed one."""
    names = [head(table, name) for name in table.columns if any(name == key[1] for key in faint)]
    if not names:
        return ""
    return (
        f"Our full model deviates from the printed one in {', '.join(names)}: levels there are "
        "grey and say little, and the verdict is about effects."
    )


def _blocked(made: Sequence[Cell]) -> list[str]:
    """A line for every reason, with the rows that it holds for."""
    rows: dict[str, dict[str, None]] = {}
    for cell in made:
        if cell.status == BLOCKED:
            rows.setdefault(cell.why, {})[cell.row.label] = None
    return [f"{', '.join(labels)}: {why}" for why, labels in rows.items()]


def _figure(id_: str, table: Table) -> str:
    """What draws a figure on a video of one's own."""
    if table.figure is None or table.figure.draws in PRINTED:
        return ""
    return command(
        id_, "video=FILE", "question=TEXT", *[f"model.{name}=FOLDER" for name in table.models][:1]
    )
