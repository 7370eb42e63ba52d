"""What it costs to add something, counted in files.

A strategy, a task and a model family are one file each, a command one file and one line.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenprune import tasks
from tokenprune.adapters import families
from tokenprune.cli import main as command_line
from tokenprune.cli.main import main
from tokenprune.lookup import FAMILIES, PLUGGABLE, TASKS

FAST = ["device=cpu", "frames=8", "max_new_tokens=2"]
TASK = '''
import torch
from tokenprune.tasks import Label, Sample, Task


class Grey(Task, name="grey"):
    """Videos of one grey, at any size."""

    def __init__(self, *, samples=None, frames, seed, size=32):
        self.samples, self.frames, self.seed, self.size = samples or 3, frames, seed, size

    def __len__(self):
        return self.samples

    def label(self, index):
        return Label(f"grey-{index}", "grey", "What colour is it?", "grey")

    def __getitem__(self, index):
        frames = torch.full((self.frames, self.size, self.size, 3), 40 + index, dtype=torch.uint8)
        return Sample(**self.label(index)._asdict(), frames=frames)

    def fingerprint(self):
        return {"task": "grey", "seed": self.seed, "frames": self.frames}
'''
STRATEGY = """
from dataclasses import dataclass
from tokenprune import VisionStage


@dataclass(frozen=True)
class Everything(VisionStage, name="everything"):
    def quota(self, tokens):
        return tokens.counts

    def compress(self, tokens, budget):
        return tokens
"""
FAMILY = """
from tokenprune.adapters.llava_onevision import LlavaOnevision


class Next(LlavaOnevision, model_type="llava_next_of_theirs"):
    pass
"""
COMMAND = """
from tokenprune.cli.command import Command


def run(words, line):
    print("hello", *words)


COMMAND = Command("hello", "says hello", "Says hello.", "NAME", run)
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test's files define is gone after it."""
    before = [dict(kind.defined) for kind in PLUGGABLE]
    modules = set(sys.modules)
    yield
    for kind, known in zip(PLUGGABLE, before, strict=True):
        kind.defined.clear()
        kind.defined.update(known)
    for name in [*sys.modules]:
        if name not in modules and name.startswith("tokenprune_plugin_"):
            del sys.modules[name]


def file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return f"plugin={folder / name}"


def test_a_strategy_and_a_task_are_a_file_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [file(tmp_path, "mine.py", STRATEGY), file(tmp_path, "videos.py", TASK)]
    out = tmp_path / "out"
    words = [*both, "strategy=everything", "task=grey", "samples=2", f"out={out}"]
    assert main(["run", *words, *FAST]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["task"] == "grey" and list(summary["categories"]) == ["grey"]
    assert {"mine.py", "videos.py"} <= set(summary["code"]), "both made the answers"
    assert {path.name for path in (out / "plugins").iterdir()} == {"mine.py", "videos.py"}
    capsys.readouterr()
    assert main(["list", *both]) == 0
    said = capsys.readouterr().out
    assert "everything" in said and "grey" in said and "tinyvqa" in said


def test_a_task_can_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "export", "grey", file(tmp_path, "videos.py", TASK), "n=2", "frames=4"]
    assert main([*words, "size=64", f"out={tmp_path / 'grey'}"]) == 0
    back = tasks.build(
        f"files:{tmp_path / 'grey' / 'annotations.json'}", samples=None, frames=4, seed=0
    )
    assert [back[i].answer for i in range(len(back))] == ["grey", "grey"]
    assert back[0].frames.shape == (4, 64, 64, 3)
    assert main([*words, "size=97", f"out={tmp_path / 'odd'}"]) == 2
    again = ["data", "export", f"files:{tmp_path / 'grey' / 'annotations.json'}", "frames=2"]
    assert main([*again, f"out={tmp_path / 'again'}"]) == 0
    capsys.readouterr()
    assert main([*again, "size=64", f"out={tmp_path / 'sized'}"]) == 2
    assert "have a size of their own: leave size= out" in capsys.readouterr().err
    for line, reason in {
        "frames = torch.full((self.frames, 31, 31, 3), 1, dtype=torch.uint8)": "even sizes only",
        "frames = torch.full((0, 32, 32, 3), 1, dtype=torch.uint8)": "has no frames",
    }.items():
        text = TASK.replace("        return Sample(", f"        {line}\n        return Sample(")
        TASKS.defined.pop("grey")
        plugin = file(tmp_path, "videos.py", text)
        assert main(["data", "export", "grey", plugin, f"out={tmp_path / 'bad'}"]) == 2
        assert reason in capsys.readouterr().err
        assert not (tmp_path / "bad").exists()


def test_a_model_family_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = file(tmp_path, "next.py", FAMILY)
    assert main(["list", plugin]) == 0
    assert "llava_next_of_theirs" in capsys.readouterr().out
    assert families()["llava_next_of_theirs"].__name__ == "Next"
    assert {"llava_onevision", "llava_next_of_theirs"} <= set(FAMILIES)


def test_a_command_is_a_file_and_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hello.py").write_text(COMMAND)
    folder = importlib.import_module("tokenprune.cli")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    monkeypatch.setattr(command_line, "COMMANDS", (*command_line.COMMANDS, "hello"))
    try:
        assert main(["hello", "you"]) == 0
        assert capsys.readouterr().out == "hello you\n"
        assert main([]) == 0
        assert "says hello" in capsys.readouterr().out
    finally:
        sys.modules.pop("tokenprune.cli.hello", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TASK.replace('"grey"):', '"tinyvqa"):'), "the task name 'tinyvqa' is taken by tokenprune"),
        (TASK.replace('"grey"):', '"files:x"):'), "'files:x' is not a task name"),
        (FAMILY.replace("llava_next_of_theirs", "llava_onevision"), "the model family name"),
    ],
)
def test_a_name_that_is_taken(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", file(tmp_path, "theirs.py", text)]) == 2
    assert reason in capsys.readouterr().err


def test_two_plugins_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep").mkdir()
    both = [file(tmp_path, "mine.py", STRATEGY), file(tmp_path / "deep", "mine.py", TASK)]
    assert main(["list", *both]) == 2
    assert "have one name: rename one of them" in capsys.readouterr().err


def test_a_run_is_printed_and_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`print=true` runs nothing; what it prints, and what a run has written, is what would run."""
    monkeypatch.chdir(tmp_path)
    words = ["strategy=fastv", "keep=0.5", "limit=1", "fastv.layer=1", *FAST]
    assert main(["run", "print=true", *words]) == 0
    printed = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    for line in ("  strategy: fastv", "  fastv:", "    layer: 1", "  full: 36", "  kept: 18.0"):
        assert f"{line}\n" in printed
    (tmp_path / "printed.yaml").write_text(printed)
    assert main(["run", "config=printed.yaml", "out=first"]) == 0
    assert main(["run", "config=first/config.yaml", "out=second", "reuse=false"]) == 0
    first, second = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("first", "second")
    )
    assert first["keep"] == second["keep"] == 0.5
    assert first["options"] == second["options"] == {"fastv.layer": 1}
    capsys.readouterr()
    assert main(["show", "config=first/config.yaml", "fastv.layer=2"]) == 0
    assert "before LLM layer 2" in capsys.readouterr().out
    assert main(["run", "config=first/config.yaml", "resume=first"]) == 2
    assert "leave config= out" in capsys.readouterr().err
