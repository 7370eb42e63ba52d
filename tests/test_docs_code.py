"""Every code block of README and docs is run, or says above it in a comment why not."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import multiprocessing
import re
import tomllib
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import docs_code
import pytest
import torch
import yaml
from docs_code import COMMANDS, ROOT, Block, blocks, commands, small

from tokenprune.loading.checkpoint import load

NEEDED = ("matplotlib", "pandas", "pyarrow")
LACKING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: no Makefile"),
]

# written by the commands that they name, with what these said; they are tested with those
WRITTEN = "docs/results/"
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if not path.relative_to(ROOT).as_posix().startswith(WRITTEN)
)
DATA = {"text", "mermaid", "html", "jinja"}  # outputs and drawings
READ: dict[str, Any] = {
    "json": lambda text: [json.loads(line) for line in text.splitlines()],
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}
DONE: set[tuple[str, ...]] = set()  # several pages show the same command
ALL = [block for page in PAGES for block in blocks(page)]
# words of the refusal that ends a command which is right but for what is not here
MISSING = {
    "resume=": "is finished: its results are in",
    "task=lmms:": "tokenprune-video[lmms]",
    "lmms": "tokenprune-video[lmms]",
    "judge=": "tokenprune-video[lmms]",
    "model=shape:": "the weights of model=shape:",  # more than this machine's memory
}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """A process of its own for commands: there no shape is checked, which triples their time."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, elsewhere: Executor) -> Iterator[Path]:
    """A folder with what the pages presume, in which their commands and their code run."""
    with contextlib.chdir(tmp_path_factory.mktemp("docs")):
        yield elsewhere.submit(docs_code.stage, Path.cwd()).result()


@pytest.fixture(scope="module")
def presumed() -> dict[str, Any]:
    """What code on the pages presumes: a model, and the inputs of a question about a video."""
    model, processor = load("tiny", "float32", "cpu")
    frames = torch.randint(0, 255, (8, 96, 96, 3), dtype=torch.uint8)
    return {"model": model, "inputs": {**processor.encode([(frames, "What moves?")])}}


def test_every_block_names_its_language() -> None:
    known = {*COMMANDS, "python", *DATA, *READ}
    assert [str(block) for block in ALL if block.language not in known] == []


def test_a_reason_is_of_the_block_below_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: no GPU -->\n```sh\na\n```\n<!-- part -->\n```sh\nb\n```\n")
    assert [block.why for block in blocks(str(page))] == ["no GPU", None]


def test_a_reason_is_a_reason() -> None:
    left_out = [block for block in ALL if block.why is not None]
    assert all(3 <= len(str(block.why).split()) <= 20 for block in left_out)
    # so that leaving out does not become a habit
    assert len(left_out) <= len(ALL) // 4


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.language in READ and not block.why], ids=str
)
def test_data_can_be_read(block: Block) -> None:
    assert READ[block.language](block.text)


RUN = [block for block in ALL if block.language in COMMANDS and not block.why]


@pytest.mark.parametrize("block", RUN, ids=str)
def test_commands_run(block: Block, stage: Path, elsewhere: Executor) -> None:
    found = commands(block)
    assert found, "no command: of a console, those behind `$`"
    for words in found:
        if words[0] != "tokenprune":
            assert_sound(words)
        elif (quick := small(words[1:])) and (same := alike(quick)) not in DONE:
            missing = [
                why for word in words for start, why in MISSING.items() if starts(word, start)
            ]
            for given in filter(None, (docs_code.shown(words[1:]), quick)):
                status, said = elsewhere.submit(docs_code.run, given).result()
                assert status == 0 or any(why in said for why in missing), f"{given}: {said}"
            DONE.add(same)


def alike(words: list[str]) -> tuple[str, ...]:
    """The command but for where its results go."""
    return tuple(sorted(word for word in words if not word.startswith("out=")))


def starts(word: str, start: str) -> bool:
    return word.startswith(start) if start.endswith(("=", ":")) else word == start


def assert_sound(words: list[str]) -> None:
    """A command that is not ours: what it names exists."""
    match words:
        case ["make", target, *_]:
            made = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{target}:", made, re.MULTILINE), words
        case ["pip", "install", *rest]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
            wanted = re.fullmatch(r"([\w.-]+?)(?:\[([\w,]+)\])?", rest[-1])
            assert wanted is not None and wanted[1] in {project["name"], "."}, words
            extras = set((wanted[2] or "").split(",")) - {""}
            assert extras <= project["optional-dependencies"].keys(), words
        case ["cd", _] | ["git", "clone", *_] | ["source", ".venv/bin/activate"]:
            pass
        case _:
            raise AssertionError(f"{words}: say above the block why it is not run")


CODE = {page: [b for b in ALL if b.page == page and b.language == "python"] for page in PAGES}


@pytest.mark.parametrize("page", [page for page, found in CODE.items() if found])
def test_code_runs(page: str, stage: Path, presumed: dict[str, Any]) -> None:
    """In the page's order and in one namespace, as in a notebook."""
    names = {"__name__": "__main__", **presumed}
    for block in CODE[page]:
        if block.why is None:
            text = "\n" * block.line + docs_code.python(block.text)  # lines as on the page
            exec(compile(text, page, "exec", dont_inherit=True), names)
