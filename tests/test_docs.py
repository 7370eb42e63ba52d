"""The documentation is current, and its example strategy obeys every law and runs from the command
line.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import arbitrary
import laws
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenprune import registry
from tokenprune.cli.main import main
from tokenprune.strategy import VisionStage

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_current(generate):
    assert {"README.md", "docs/strategies.md", "docs/design/rooms.md"} <= set(generate.pages())
    for page in generate.pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text == generate.refreshed(page), f"{page} is stale: make docs"


@pytest.mark.parametrize("page", ["README.md", "docs/strategies.md"])
def test_every_strategy_is_in_the_table(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in registry.names())


def test_the_readme_fits_into_100_characters_and_begins_with_what_there_is_to_see():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 100] == []
    head = text[: text.index("\n## ")]
    # the picture, the two commands, one plot, within what a screen shows
    places = [head.index(part) for part in ("docs/images/first.png", "$ make run", "curve.png")]
    assert places == sorted(places) and head.count("\n$ ") == 2 and head.count("![") == 2
    assert head.count("\n") < 40 and "not the papers' results" in head


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    ]
    local = [(page, link) for page, link in links if not link.startswith("http")]
    assert [link for page, link in local if not (page.parent / link).exists()] == []


def test_an_arrow_that_follows_from_others_is_not_drawn(generate):
    arrows = {"top": {"middle", "low", "bottom"}, "middle": {"low"}, "low": {"bottom"}}
    arrows["bottom"] = set()
    shown = {"top": {"middle"}, "middle": {"low"}, "low": {"bottom"}, "bottom": set()}
    assert generate.reduced(arrows) == shown


def example() -> str:
    """The strategy that docs/write-a-strategy.md defines."""
    text = (ROOT / "docs/write-a-strategy.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]


def test_the_readme_shows_the_same_example():
    def squeeze(text: str) -> str:
        return re.sub(r"\s+", "", text)

    assert squeeze(example()) in squeeze((ROOT / "README.md").read_text(encoding="utf-8"))


def test_a_new_strategy_is_one_file(capsys, tmp_path):
    file = tmp_path / "norm.py"
    file.write_text(example(), encoding="utf-8")
    plugin = f"plugin={file}"
    assert main(["show", plugin, "strategy=norm+dytok", "norm.keep=0.1"]) == 0
    assert "norm" in capsys.readouterr().out
    out = tmp_path / "run"
    assert (
        main(["run", plugin, "strategy=norm+dytok", "norm.keep=0.5", "limit=2", f"out={out}"]) == 0
    )
    assert (out / "summary.json").exists()

    strategy = registry.get("norm")()
    assert isinstance(strategy, VisionStage)

    @given(st.data())
    def obeys_every_law(data):
        tokens = data.draw(arbitrary.visual_tokens())
        laws.check_vision(strategy, tokens, data.draw(arbitrary.budgets(tokens.counts)))

    obeys_every_law()


@pytest.mark.parametrize("pattern", [r"(^|[^A-Za-z0-9_.])/(work|farm|tmp)/"])
def test_no_path_of_a_machine_is_committed(pattern):
    try:
        files = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    texts = [
        file
        for file in files
        if (ROOT / file).suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".json", ""}
    ]
    leaks = [
        f
        for f in texts
        if (ROOT / f).is_file() and re.search(pattern, (ROOT / f).read_text("utf-8", "ignore"))
    ]
    assert leaks == []
