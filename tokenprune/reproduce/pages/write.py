"""Pages to files: the same figures give the same bytes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenprune.reproduce import ours
from tokenprune.reproduce.cell import SIGNS
from tokenprune.reproduce.cells import cells, counted
from tokenprune.reproduce.files import papers, read_paper, read_table, tables
from tokenprune.reproduce.grids import grid
from tokenprune.reproduce.pages.papers import paper_view
from tokenprune.storage import replace
from tokenprune.templates import environment

_TEMPLATES = Path(__file__).parent / "templates"
_BAR = 40  # characters of the summary's bar in Markdown


def write_pages(names: Sequence[str], folder: Path, out: Path | None = None) -> list[Path]:
    """`PAPER.md` and `PAPER.html` of these papers in `folder`.

    Figures of ours are those that the project ships and, before them, those in `out`. Raises
    ConfigError, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [file for name in names for file in _write(name, folder, out)]


def _write(name: str, folder: Path, out: Path | None) -> list[Path]:
    page = paper_view(name, functools.partial(_ours, out), functools.partial(_grid, out), folder)
    files = {
        folder / f"{name}.md": rendered("paper.md.j2", page=page, bar=_BAR),
        folder / f"{name}.html": rendered("paper.html.j2", page=page),
    }
    for file, text in files.items():
        replace(file, text)
    return list(files)


def _ours(out: Path | None, id_: str) -> Mapping[Any, Any]:
    return ours.read(ours.committed(id_)) if out is None else ours.known(out, id_)


def _grid(out: Path | None, id_: str) -> grid.Grid | None:
    return grid.read(grid.committed(id_)) if out is None else grid.known(out, id_)


def write_index(file: Path) -> Path:
    """All papers and tables with how many of their cells have which status, as Markdown."""
    counts = {id_: counted(cells(table, ours.read(ours.committed(id_)))) for id_, table in tables()}
    used = [status for status in SIGNS if any(status in one for one in counts.values())]
    rows = [
        (id_, read_table(id_).title, [one.get(status, 0) for status in used])
        for id_, one in counts.items()
    ]
    total = [sum(numbers) for numbers in zip(*(row[-1] for row in rows), strict=True)]
    about = {name: read_paper(name) for name in papers()}
    replace(file, rendered("index.md.j2", papers=about, rows=rows, used=used, total=total))
    return file


def rendered(template: str, **given: Any) -> str:
    """A template of this package: one empty line at most between others, a newline at the end."""
    text = _environment().get_template(template).render(**given)
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines) + "\n"


@functools.cache
def _environment() -> Any:
    made = environment(_TEMPLATES)
    made.filters["cell"] = _in_a_cell
    made.filters["coded"] = _coded
    return made


def _in_a_cell(text: str) -> str:
    """Text inside a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ").replace("*", "\\*").replace("<", "&lt;")


def _coded(text: str) -> Any:
    """HTML of text in which code stands between backticks."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
