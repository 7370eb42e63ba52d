"""The strategies that docs/write-a-strategy.md teaches: they are its text, keep all laws, and run
as a file, in a cell of a notebook and as a package.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from models import llava_onevision, prompt

from tokenprune import attach, registry
from tokenprune.cli.main import main
from tokenprune.testing import check_strategy, check_task

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs/examples"
PACKAGE = EXAMPLES / "still"
FILES = {
    "norm": EXAMPLES / "norm.py",
    "steps": EXAMPLES / "steps.py",
    "still": PACKAGE / "still_frames/still.py",
}
# of each, options that leave less than everything of a random video
OPTIONS: dict[str, dict[str, Any]] = {"norm": {}, "steps": {}, "still": {"still.alike": 0.2}}
PAGE, TASKS_PAGE = ROOT / "docs/write-a-strategy.md", ROOT / "docs/tasks.md"
GREY = EXAMPLES / "grey.py"


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_page_shows_the_files() -> None:
    shown = [file.read_text(encoding="utf-8") for file in FILES.values()]
    assert blocks("python")[:3] == shown
    assert blocks("toml") == [(PACKAGE / "pyproject.toml").read_text(encoding="utf-8")]
    assert (PACKAGE / "tests/test_still.py").read_text(encoding="utf-8") in blocks("python")
    assert {*EXAMPLES.glob("*.py")} < {*FILES.values(), GREY}
    assert f"```python\n{GREY.read_text(encoding='utf-8')}```" in TASKS_PAGE.read_text("utf-8")


def test_the_task_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", f"plugin={GREY}", "task=grey", "strategy=uniform", "limit=1", "frames=8"]
    assert main([*words, "device=cpu", "max_new_tokens=2", f"out={tmp_path / 'run'}"]) == 0
    capsys.readouterr()
    assert len(check_task("grey").of("passed")) > 9
    assert "grey (Grey): " in capsys.readouterr().out


def in_a_cell(name: str) -> dict[str, Any]:
    """What running the file's text as a cell of a notebook defines."""
    text = FILES[name].read_text(encoding="utf-8")
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<ipython-input-1>", "exec", dont_inherit=True), cell)
    return cell


@pytest.mark.parametrize("name", FILES)
def test_in_a_cell_of_a_notebook(name: str) -> None:
    """Running it again replaces it; the laws hold, and it compresses what a model sees."""
    first = in_a_cell(name)[name.title()]
    kind = in_a_cell(name)[name.title()]
    assert registry.get(name) is kind is not first
    pipeline = registry.build(name, OPTIONS[name])
    report = check_strategy(pipeline.strategies[0], models=["toy"], show=False, cases=12)
    assert len(report.of("passed")) >= 15
    model = llava_onevision()
    with attach(model, pipeline) as session:
        model.generate(**prompt(6), max_new_tokens=3, do_sample=False)
    assert session.report[0].layers[-1] < session.report[0].full


@pytest.mark.parametrize("name", FILES)
def test_as_a_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, words = f"plugin={FILES[name]}", [f"{k}={v}" for k, v in OPTIONS[name].items()]
    assert main(["list", plugin]) == 0
    said = capsys.readouterr().out
    assert name in said and "Control: " in said
    run = ["run", plugin, f"strategy={name}", *words, "limit=2", "frames=8", "device=cpu"]
    assert main([*run, "max_new_tokens=2", f"out={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run/summary.json").exists()


def test_a_retention_can_be_asked_of_the_one_that_says_how(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["show", f"plugin={FILES['steps']}", "strategy=steps"]
    assert main([*words, "keep=0.5", "steps.number=2"]) == 0
    # of six layers two see all, two the fraction x and two its square: x + x * x is a half
    assert "keep=0.36602" in capsys.readouterr().out
    assert main([*words, "keep=0.1"]) == 2
    assert "steps retains 16.7% to 100.0% here, not 10.0%" in capsys.readouterr().err


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the built package is installed, as a wheel is: unpacked."""
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("still")
    (built,) = WheelBuilder(str(PACKAGE)).build(directory=str(folder), versions=["standard"])
    zipfile.ZipFile(built).extractall(folder / "site")
    return folder / "site"


def test_as_a_package(site: Path, tmp_path: Path) -> None:
    """Its own tests, against what was built: nothing of its source is on the path."""
    names = {file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()}
    assert {"still_frames/still.py", "still_frames-0.1.0.dist-info/entry_points.txt"} <= names
    assert importlib.util.find_spec("still_frames") is None
    paths = os.pathsep.join([str(site), str(ROOT)])
    copied = tmp_path / "test_still.py"
    copied.write_text((PACKAGE / "tests/test_still.py").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(copied)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
