"""The notebooks run from the first cell to the last, are stored with what they show, and are pages
of the site.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("nbclient", "nbformat", "ipykernel", "pandas")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
FEWER = (r"limit=\d+", "limit=2")  # questions: here it counts that everything runs


def module_of(name: str, file: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def command():
    return module_of("notebooks", "docs/notebooks.py")


@pytest.fixture(scope="module")
def stored(command) -> dict[str, Any]:
    return {file.stem: book for file, book in command.books([]).items()}


@pytest.fixture(scope="module")
def again(command) -> dict[str, Any]:
    """All notebooks run anew in one kernel, which saves a start."""
    books = [*command.books([]).items()]
    whole = books[0][1].copy()
    whole.cells = [cell for _, book in books for cell in book.cells]
    for cell in whole.cells:
        cell.source = re.sub(*FEWER, cell.source)
        cell.outputs = [] if cell.cell_type == "code" else None
    command.execute(whole)
    return {file.stem: book for file, book in books}


def texts(cell: Any) -> list[str]:
    """What a cell shows, as text; without figures of time, which no two runs share."""
    found = []
    for output in cell.outputs:
        assert output.output_type != "error", cell.source
        text = output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        found.append(text)
    return found


def code(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", ["new-method", "tour"])
def test_a_notebook_runs_and_shows_what_is_stored(again, stored, name):
    made, kept = code(again[name]), code(stored[name])
    asked = [place for place, cell in enumerate(kept) if "tokenprune.ask(" in cell.source]
    same = [place for place in asked if "pd.concat" not in kept[place].source]
    assert len(same) >= 2, "answers and what was kept, which every run shares"
    for place in same:
        assert texts(made[place]) == texts(kept[place]), "stale: python docs/notebooks.py"
    for cell in made:
        texts(cell)


@pytest.mark.parametrize("name", ["new-method", "tour"])
def test_a_notebook_is_stored_as_one_run_left_it(stored, name):
    cells = code(stored[name])
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    everything = "\n".join(text for cell in cells for text in texts(cell))
    assert "they are not the papers' results" in everything
    assert "/tmp" not in everything and "\x1b" not in everything, "of one machine, or of a terminal"
    drawn = [
        cell for cell in cells if any("text/html" in one.get("data", {}) for one in cell.outputs)
    ]
    assert len(drawn) >= 2
    assert (ROOT / f"docs/notebooks/{name}.ipynb").stat().st_size < 300_000


def test_links_of_notebooks_lead_somewhere(stored):
    for book in stored.values():
        for cell in book.cells:
            for link in re.findall(
                r"\]\(([^)#]+)", cell.source if cell.cell_type == "markdown" else ""
            ):
                assert (ROOT / "docs/notebooks" / link).exists(), link


def test_a_notebook_becomes_a_page():
    pytest.importorskip("mkdocs")
    hook = module_of("hook", "docs/hooks/notebooks.py")
    html = {"output_type": "display_data", "data": {"text/html": ["<p>\n", "\n", "x</p>"]}}
    said = {"output_type": "stream", "text": ["one\n", "two\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "[next](tour.ipynb)"]},
        {"cell_type": "code", "source": ["%%sh\n", "tokenprune list"], "outputs": [said]},
        {"cell_type": "code", "source": ["draw()"], "outputs": [html]},
    ]
    page = hook.page({"cells": cells})
    assert "```sh\ntokenprune list\n```\n\n```text\none\ntwo\n```" in page
    drawn = page.split("```python\ndraw()\n```\n\n")[1]
    assert drawn.startswith("<div ") and drawn.endswith("<p>\nx</p>\n</template></div>\n")
    assert "\n\n" not in drawn.rstrip(), "one block of HTML"
    assert "[next](tour.md)" in hook.on_page_markdown(page)
