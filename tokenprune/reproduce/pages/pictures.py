"""Pictures that stand beside a page, and those that printed figures alone give."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenprune.reproduce.cell import Cell
from tokenprune.reproduce.grids.grid import Grid
from tokenprune.reproduce.pages.ranks import budget_of, listed
from tokenprune.reproduce.pages.views import Image
from tokenprune.reproduce.schema import Table
from tokenprune.storage import replace

FOLDER = "images"
PRINTED = BARS, CURVES, GRID = "bars", "curves", "grid"  # drawn from printed figures alone
_MIMES = {".png": "image/png", ".svg": "image/svg+xml"}


def stem(id_: str) -> str:
    """What the pictures of a table are called."""
    return id_.replace("/", "-")


def images(folder: Path, id_: str) -> list[Image]:
    """The pictures of a table in `folder`, whatever drew them, each with its words beside it as
    JSON.
    """
    files = [
        file
        for file in sorted((folder / FOLDER).glob(f"{stem(id_)}*"), key=lambda one: one.stem)
        if file.suffix in _MIMES and _is_of(file.stem, id_)
    ]
    return [_image(folder, file) for file in files]


def _is_of(name: str, id_: str) -> bool:
    """`dytok-table1` is not a picture of `dytok/table13`."""
    return not name.removeprefix(stem(id_))[:1].isalnum()


def _image(folder: Path, file: Path) -> Image:
    told: dict[str, Any] = {}
    if (words := file.with_suffix(".json")).is_file():
        told = json.loads(words.read_text(encoding="utf-8"))
    data = base64.b64encode(file.read_bytes()).decode()
    return Image(
        path=file.relative_to(folder).as_posix(),
        alt=str(told.get("alt", "")),
        caption=str(told.get("caption", "")),
        inline=f"data:{_MIMES[file.suffix]};base64,{data}",
    )


def draw(
    id_: str, table: Table, made: Sequence[Cell], grid: Grid | None, folder: Path
) -> list[Path]:
    """The pictures that figures alone give: bars, curves or a heat map where a table's file asks
    for them, and those of its analogue. Needs matplotlib.

    Raises ConfigError, OSError.
    """
    drawn: dict[str, tuple[Any, str]] = {}
    if table.figure is not None and table.figure.draws == BARS:
        drawn[stem(id_)] = _bars(table), f"{table.title}, as printed."
    if table.figure is not None and table.figure.draws == CURVES:
        drawn[stem(id_)] = _curves(table, made), f"{table.title}, as printed."
    if table.figure is not None and table.figure.draws == GRID:
        name = f"{stem(id_)}-printed"  # its analogue's has the table's
        drawn[name] = _heat(table, **table.figure.options), f"{table.title}, as printed."
    if grid is not None:
        from tokenprune.reproduce.grids.pictures import pictures

        for name, drawing in pictures(stem(id_), grid).items():
            drawn[Path(name).stem] = drawing, f"{table.title}: analogue on the embedded model."
    return [_save(folder, name, *one) for name, one in drawn.items()]


def _save(folder: Path, name: str, drawing: Any, caption: str) -> Path:
    file = folder / FOLDER / f"{name}.png"
    drawing.save(file)
    told = json.dumps({"alt": drawing.alt, "caption": caption}, indent=1, ensure_ascii=False)
    replace(file.with_suffix(".json"), told + "\n")
    return file


def _bars(table: Table) -> Any:
    from tokenprune.pictures.charts import bars

    heads = {name: column.label for name, column in table.columns.items()}
    measures = {
        ", ".join(filter(None, [heads[name], column.unit])): [
            table.printed(row, name) for row in table.rows
        ]
        for name, column in table.columns.items()
    }
    return bars([row.label for row in table.rows], measures)


def _heat(table: Table, column: str, down: str, across: str, model: str) -> Any:
    """A column over two settings, of one model."""
    from tokenprune.pictures.charts import grid

    found = {
        (row.settings[down], row.settings[across]): table.printed(row, column)
        for row in table.rows
        if row.settings.get("model") == model and {down, across} <= row.settings.keys()
    }
    rows, columns = (sorted({place[axis] for place in found}) for axis in (0, 1))
    values = [[found.get((one, other)) for other in columns] for one in rows]
    title = f"{table.columns[column].label}, {model}"
    return grid(
        [f"{one:g}" for one in rows], [f"{one:g}" for one in columns], values, down, across, title
    )


def _curves(table: Table, made: Sequence[Cell]) -> Any:
    """A column over the budget, a curve for each method: as printed, and ours where it was run."""
    from tokenprune.pictures.charts import Curve, Point, curves

    (name,) = table.columns
    lines = []
    for method, points in _points(table, name, listed(made)).items():
        lines.append(Curve(method, [Point(x, y) for x, y in points]))
    label = table.columns[name].label
    return curves(lines, "visual tokens, nominal %", label, falling=True)


def _points(
    table: Table, name: str, made: Mapping[tuple[str, str], Cell]
) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        budget, cell = budget_of(table, row), made[row.label, name]
        if budget is None:
            continue
        for method, y in _of(row.method, cell):
            found.setdefault(method, []).append((budget.percent, y))
    return found


def _of(method: str, cell: Cell) -> Iterator[tuple[str, float]]:
    if cell.printed is not None:
        yield method, float(cell.printed)
    if cell.found is not None:
        yield f"{method}, ours", cell.found.value
