"""A paper of the tests' own: two tables over the embedded model and its samples, and a protocol."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenprune.reproduce import files, models, protocol

SAMPLES = 6
PAPER = {"title": "A paper", "link": "https://example.org", "tables": ["table1", "table2"]}
PROTOCOL = {
    "title": "as the test says",
    "words": {"samples": SAMPLES, "dtype": "float32"},
    "tasks": {"shapes": {"task": "tinyvqa", "kind": "choice", "n": SAMPLES, "tokens": 8}},
}
SCORE = {"from": "score", "task": "shapes", "scale": 100, "digits": 1}
AVERAGE = {"from": "derived", "formula": "mean", "of": ["shapes"]}
ROWS = [
    {"method": "Full", "run": {"strategy": "none"}},
    {
        "method": "FastV",
        "run": {"strategy": "fastv", "options": {"fastv.layer": 1, "fastv.drop": 0.5}},
    },
    {"method": "Else", "blocked": {"kind": "protocol", "why": "nobody knows how"}},
]


def table(printed: list[list[float]], **more: Any) -> dict[str, Any]:
    """A table of ROWS with one score column and its mean."""
    return {
        "title": "A table",
        "source": "the test",
        "protocol": "local",
        "models": {"small": "tiny"},
        "defaults": {"model": "small", "frames": 8},
        "columns": {
            "shapes": SCORE,
            "avg": {"from": "derived", "formula": "mean", "of": ["shapes"]},
        },
        "baseline": {"method": "Full"},
        "rows": [{**row, "printed": values} for row, values in zip(ROWS, printed, strict=True)],
        **more,
    }


def write(home: Path, tables: dict[str, Any]) -> Path:
    """`home` as the folder of all papers, with these tables in one."""
    for folder in ("demo", protocol.FOLDER):
        (home / folder).mkdir(parents=True, exist_ok=True)
    sizes = Path(files.__file__).parent.parent / "papers" / "models.yaml"
    shutil.copy(sizes, home / "models.yaml")
    (home / protocol.FOLDER / "local.yaml").write_text(yaml.safe_dump(PROTOCOL, sort_keys=False))
    paper = {**PAPER, "tables": list(tables)}
    (home / "demo" / "paper.yaml").write_text(yaml.safe_dump(paper, sort_keys=False))
    for name, content in tables.items():
        text = yaml.safe_dump(content, sort_keys=False)
        (home / "demo" / f"{name}.yaml").write_text(text)
    return home


@contextmanager
def at(home: Path) -> Iterator[None]:
    """The papers in `home` instead of the project's."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (files, models, protocol):
            patch.setattr(module, "home", lambda: home)
        models.models.cache_clear()
        protocol.read_protocol.cache_clear()
        yield
    models.models.cache_clear()
    protocol.read_protocol.cache_clear()
