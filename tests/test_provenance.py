"""Which files are somebody's code: what a strategy imports of its own, and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from tokenprune import registry, tasks
from tokenprune.plugins import load_plugin
from tokenprune.results.provenance import (
    code_of,
    code_of_package,
    code_of_pipeline,
    differing,
    plugin_files,
)
from tokenprune.strategy import REGISTERED

STRATEGY = """
from dataclasses import dataclass
{imports}
from tokenprune import VisionStage

@dataclass(frozen=True)
class Kept(VisionStage, name="kept_whole"):
    def quota(self, tokens):
        {inside}
        return tokens.counts

    def compress(self, tokens, budget):
        return tokens
"""


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder to import from, and neither a module nor a strategy left behind."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in [
        name
        for name in set(sys.modules) - before
        if name.split(".")[0] in ("theirs", "near", "far")
    ]:
        del sys.modules[name]


def write(folder: Path, **files: str) -> None:
    """Files by name, `__` for the slash between a package and its module."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        (file.parent / "__init__.py").touch() if file.parent != folder else None
        file.write_text(text)


def test_a_package_counts_with_what_it_imports_of_itself(tmp_path: Path) -> None:
    """Relatively, absolutely, inside functions, through its parents; not what type checkers alone
    see.
    """
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from theirs import types_only"
    imports = f"from . import maths\nimport theirs.table\nimport rich.table\n{typed}"
    write(
        tmp_path,
        theirs__method=STRATEGY.format(imports=imports, inside="from theirs.late import number"),
        theirs__maths="from .deep import DEEP",
        theirs__deep="DEEP = 1",
        theirs__table="import json",
        theirs__late="number = 2",
        theirs__types_only="",
        theirs__other="is not imported",
    )
    importlib.import_module("theirs.method")
    assert "theirs.late" not in sys.modules
    code = code_of_pipeline(registry.build("kept_whole"))
    theirs = [name for name in code.digests() if name.startswith("theirs")]
    wanted = ("__init__", "deep", "late", "maths", "method", "table")
    assert theirs == [f"theirs/{name}.py" for name in wanted]
    assert code.versions() == {"rich": version("rich")}
    write(tmp_path, theirs__late="number = 3", theirs__other="still not")
    assert differing(code.digests(), code_of(REGISTERED["kept_whole"]).digests()) == [
        "theirs/late.py"
    ]


def test_a_base_class_counts_and_code_that_is_not_installed(tmp_path: Path) -> None:
    write(
        tmp_path,
        near=STRATEGY.format(imports="import far", inside="pass").replace(
            ', name="kept_whole"', ""
        ),
        far="VALUE = 1",
        theirs="from near import Kept\nclass Mine(Kept, name='kept_whole'): ...",
    )
    importlib.import_module("theirs")
    names = code_of_pipeline(registry.build("kept_whole")).digests()
    assert {
        "theirs.py",
        "near.py",
        "far.py",
        "tokenprune/strategy/stages.py",
        "tokenprune/ops.py",
    } <= set(names)


def test_a_plugin_counts_as_it_was_run(tmp_path: Path) -> None:
    """An edit of the file after it was run is not what made a result; its neighbours are copied
    with it.
    """
    near, far = tmp_path / "plugins", tmp_path / "far.py"
    near.mkdir()
    far.write_text("")
    file = near / "mine.py"
    file.write_text(STRATEGY.format(imports="import far", inside="pass"))
    load_plugin(str(file))
    before = code_of_pipeline(registry.build("kept_whole"))
    file.write_text("raise RuntimeError")
    assert code_of_pipeline(registry.build("kept_whole")).digests() == before.digests()
    assert {"mine.py", "far.py"} <= set(before.digests())
    assert set(plugin_files(before)) == {Path("mine.py")}, "far.py lies elsewhere"
    assert not list(near.glob("__pycache__"))
    far.rename(near / "far.py")
    del sys.modules["far"]
    sys.path.insert(0, str(near))
    file.write_text(STRATEGY.format(imports="import far", inside="pass"))
    load_plugin(str(file))
    assert set(plugin_files(code_of_pipeline(registry.build("kept_whole")))) == {
        Path("mine.py"),
        Path("far.py"),
    }


def test_an_edit_within_one_second_and_of_the_same_size_counts(tmp_path: Path) -> None:
    """Python's own cache of compiled files would not see it."""
    file = tmp_path / "mine.py"
    digests = []
    for number in (1, 2):
        file.write_text(STRATEGY.format(imports=f"VALUE = {number}", inside="pass"))
        load_plugin(str(file))
        assert number == sys.modules["tokenprune_plugin_mine"].VALUE
        digests.append(code_of_pipeline(registry.build("kept_whole")).digests()["mine.py"])
    assert digests[0] != digests[1]


CELL = """
from dataclasses import dataclass
from tokenprune import VisionStage

SCALE = {scale}

def share(counts):
    return [round({factor} * count * SCALE) for count in counts]

@dataclass(frozen=True)
class Kept(VisionStage, name="kept_whole"):
    keep: float = {keep}

    def quota(self, tokens):
        return share(tokens.counts)

    def compress(self, tokens, budget):
        return tokens  # {comment}
"""


def in_a_cell(**values: object) -> dict[str, str]:
    """The digests of a strategy that was defined where no file is."""
    module = sys.modules["a_cell"] = ModuleType("a_cell")
    text = CELL.format(**{"scale": 1.0, "factor": 0.5, "keep": 0.5, "comment": "", **values})
    try:
        exec(compile(text, "<cell>", "exec", dont_inherit=True), vars(module))
        found = code_of_pipeline(registry.build("kept_whole")).digests()
    finally:
        del sys.modules["a_cell"]
    return {name: digest for name, digest in found.items() if not name.startswith("tokenprune/")}


def test_a_class_without_a_file_counts_by_its_compiled_code() -> None:
    before = in_a_cell()
    assert list(before) == ["class Kept"]
    assert in_a_cell() == before and in_a_cell(comment="other words") == before
    for change in ({"factor": 0.25}, {"scale": 2.0}, {"keep": 0.25}):
        assert in_a_cell(**change) != before, change


def test_of_this_package_counts_what_answers_go_through() -> None:
    """An edit of a help text, a table or another strategy makes nothing stale."""
    names = set(code_of_package().digests())
    inside = (
        "evaluation/loop",
        "evaluation/answering",
        "evaluation/generate",
        "results/journal",
        "loading/checkpoint",
        "loading/processor",
        "runtime/session",
        "ops",
        "strategy/stages",
        "registry",
        "adapters/llava_onevision",
    )
    assert {f"tokenprune/{name}.py" for name in inside} <= names
    outside = (
        "cli/main",
        "cli/command",
        "evaluation/config",
        "results/summary",
        "results/summarise",
        "results/column",
        "results/columns",
        "results/table",
        "results/read",
        "results/record",
        "results/wording",
        "evaluation/compare",
        "study/table",
        "evaluation/compare_screen",
        "evaluation/plan",
        "evaluation/run",
        "bench/run",
    )
    assert not {f"tokenprune/{name}.py" for name in outside} & names
    assert not [
        name
        for name in names
        if name.startswith("tokenprune/strategies/") and "__init__" not in name
    ]
    assert "tokenprune/strategies/fastv.py" in code_of_pipeline(registry.build("fastv")).digests()
    samples = code_of(tasks.kind("tinyvqa")).digests()  # pyright: ignore[reportArgumentType]  a class
    assert {
        "tokenprune/tasks/tinyvqa.py",
        "tokenprune/tasks/render.py",
        "tokenprune/tasks/metrics.py",
    } <= set(samples)
    assert all(len(digest) == 16 for digest in samples.values()) and list(samples) == sorted(
        samples
    )
