"""An author's own bug: the exception keeps its type, a note says whose it is, and the command shows
their part.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
from models import llava_onevision, prompt

from tokenprune.cli.main import main
from tokenprune.guards import blame
from tokenprune.plugins import load_plugin
from tokenprune.registry import resolve
from tokenprune.runtime.session import attach
from tokenprune.strategies.uniform import Uniform

SOURCE = '''
from dataclasses import dataclass

import torch

from tokenprune import DecodeStage, VisionStage, ops


@dataclass(frozen=True)
class Theirs(VisionStage, DecodeStage, name="theirs"):
    """Control: fails in the method `at`, of the video `number`."""

    at: str = "compress"
    least: float = -1e9
    layer: int = 2

    def quota(self, tokens):
        return self.maybe("quota", tokens, ops.count(tokens.counts, 0.5))

    def compress(self, tokens, budget):
        _, valid = ops.by_frame(tokens.slot, tokens.counts)
        scores, valid = ops.by_frame(tokens.slot.float(), tokens.counts)
        return self.maybe("compress", tokens, tokens[ops.keep_top(scores, budget, valid)[valid]])

    def start(self):
        return None

    def attend(self, view, state):
        return self.maybe("attend", view, (view.position > -1, state))

    def maybe(self, method, seen, result):
        total = float(getattr(seen, "features", torch.zeros(1)).sum())
        if self.at == method and total > self.least:
            self.fail()
        return result

    def fail(self):
        try:
            {}["missing"]
        except KeyError:
            raise ValueError("shapes (16,36) (15,36)") from None
'''


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    file = tmp_path / "theirs.py"
    file.write_text(SOURCE)
    return file


@pytest.mark.parametrize("method", ["quota", "compress", "attend"])
def test_whoever_generates_gets_the_original_exception(method: str, theirs: Path) -> None:
    load_plugin(str(theirs))
    pipeline = resolve("theirs", {"theirs.at": method}, seed=0)
    model = llava_onevision()
    with attach(model, pipeline), pytest.raises(ValueError, match=r"^shapes \(16,36\)") as caught:
        model.generate(**prompt(4, ((4, 5), (1, 2))), max_new_tokens=3, do_sample=False)
    assert type(caught.value) is ValueError
    assert caught.value.__notes__ == [
        f"theirs.py: Theirs.{method} raised ValueError, row 0 of the batch: mend it there, "
        "tokenprune only called it"
    ]
    trace = blame.shortened(caught.value)
    assert trace is not None
    lines = trace.splitlines()
    assert (
        lines[0] == "Traceback (most recent call last):"
        and lines[-1] == "ValueError: shapes (16,36) (15,36)"
    )
    places = [line.split(", ") for line in lines if line.startswith("  File ")]
    assert [place[0] for place in places] == [f'  File "{theirs}"'] * 3
    assert [place[2] for place in places] == [f"in {method}", "in maybe", "in fail"]


def test_what_is_not_an_authors_bug_is_not_cut() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        print(1 / 0)
    assert blame.shortened(caught.value) is None
    with pytest.raises(TypeError) as built_in:
        blame.call(Uniform, "quota", Uniform().quota)
    assert blame.shortened(built_in.value) is None
    assert not hasattr(built_in.value, "__notes__")


def test_it_keeps_its_author_on_the_way_to_another_process(theirs: Path) -> None:
    load_plugin(str(theirs))
    pipeline = resolve("theirs", seed=0)
    model = llava_onevision()
    with (
        pytest.raises(ValueError, match="shapes") as caught,
        blame.travelling(),
        attach(model, pipeline),
    ):
        model.generate(**prompt(4), max_new_tokens=1)
    arrived = pickle.loads(pickle.dumps(caught.value))
    assert arrived.__traceback__ is None
    assert blame.shortened(arrived) == blame.shortened(caught.value)
    assert arrived.__notes__ == caught.value.__notes__


def test_a_recursion_is_cut_at_both_ends() -> None:
    class Deep:
        def weigh(self, number: int) -> int:
            return self.weigh(number + 1) if number % 2 else self.other(number)

        def other(self, number: int) -> int:
            return self.weigh(number + 1)

    with pytest.raises(RecursionError) as caught:
        blame.call(Deep, "weigh", Deep().weigh, 0)
    trace = blame.shortened(caught.value)
    assert trace is not None
    assert trace.count("\n") < 100 and trace.splitlines()[-1].startswith("RecursionError: ")


def test_the_command_shows_the_authors_part_and_one_sentence(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = [
        f"plugin={theirs}",
        "strategy=theirs",
        "limit=2",
        "frames=8",
        f"out={out}",
        "max_new_tokens=2",
    ]
    assert main(["run", *words]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    start = lines.index("Traceback (most recent call last):")
    shown = lines[start:]
    assert len(shown) < 15 and not any(
        "lightning" in line or "tokenprune/" in line for line in shown
    )
    assert sum(str(theirs) in line for line in shown) == 3
    assert shown[-2] == "ValueError: shapes (16,36) (15,36)"
    first = (
        "theirs.py: Theirs.compress raised ValueError, row 0 of the batch: mend it there, "
        "tokenprune only called it"
    )
    assert shown[-1].startswith(f"tokenprune: error: {first}; it happened at sample ")


def test_an_authors_missing_file_is_a_bug_too(theirs: Path) -> None:
    theirs.write_text(
        SOURCE.replace('raise ValueError("shapes (16,36) (15,36)") from None', 'open("missing.pt")')
    )
    load_plugin(str(theirs))
    pipeline = resolve("theirs", seed=0)
    model = llava_onevision()
    with attach(model, pipeline), torch.no_grad(), pytest.raises(FileNotFoundError) as caught:
        model(**prompt(4))
    trace = blame.shortened(caught.value)
    assert trace is not None and trace.endswith(
        "FileNotFoundError: [Errno 2] No such file or directory: 'missing.pt'"
    )


PLUGINS = {
    "def broken(:": "fails in line 1: SyntaxError: invalid syntax",
    "import torch\n\ntorch.zeros(-1)": "fails in line 3: RuntimeError: zeros: ",
    "import sys\nsys.exit('usage: theirs')": "fails in line 2: SystemExit: usage: theirs",
    "import nothing_of_that_name": "fails in line 1: ModuleNotFoundError: No module named "
    "'nothing_of_that_name'",
    "x = 1": 'defines nothing: write class Mine(VisionStage, name="mine") in it, '
    'or class Mine(Task, name="mine"), '
    "with that name",
    SOURCE.replace(', name="theirs"', ""): "defines nothing: write class Mine",
}


@pytest.mark.parametrize("source", PLUGINS)
def test_a_plugin_that_cannot_be_used(
    source: str, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs.write_text(source)
    assert main(["show", f"plugin={theirs}", "strategy=uniform"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(f"tokenprune: error: plugin={theirs} {PLUGINS[source]}")
        and said.count("\n") == 1
    )


def test_a_plugin_may_import_what_it_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a package folder, and twice in one process."""
    package = tmp_path / "brought"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inside.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "theirs.py"
    try:
        for text in (
            "import brought.inside",
            "from brought.inside import Theirs",
            "from brought import inside as one",
        ):
            file.write_text(text)
            for _ in range(2):
                load_plugin(str(file))
                assert str(resolve("theirs", seed=0)) == "theirs"
    finally:
        for name in ("brought", "brought.inside"):
            sys.modules.pop(name, None)
