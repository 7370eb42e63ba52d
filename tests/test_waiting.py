"""The first minute: something is said before anything heavy is imported, and it goes away again."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenprune.cli.waiting import waiting

ROOT = Path(__file__).parent.parent
CLEARED = "\x1b[2K"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What a test sees of stderr from now on; pytest sets it anew before each."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return stream


def test_words_come_change_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch)
    with waiting("reading") as tell:
        assert "reading" in terminal.getvalue()
        tell("")
        assert terminal.getvalue().endswith(CLEARED)
        there = len(terminal.getvalue())
        tell("loading tiny")
        assert "loading tiny" in terminal.getvalue()[there:]
    assert "\x1b[?25h" in terminal.getvalue()[there:], "the cursor is shown again"
    assert CLEARED in terminal.getvalue()[there:]


def test_an_error_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch)
    with pytest.raises(OSError, match="torn"), waiting("reading"):
        raise OSError("torn")
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1


def test_nothing_is_shown_in_files_and_by_further_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = as_terminal(monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    with waiting() as tell:
        tell("loading tiny")
    assert terminal.getvalue() == ""
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    with waiting() as tell:
        tell("loading tiny")
    assert file.getvalue() == ""


BEGUN = """
import io, sys
class Terminal(io.StringIO):
    def isatty(self): return True
sys.stderr = Terminal()
import tokenprune.cli.{command} as command
def stop(*_):
    heavy = {{"torch", "transformers", "numpy", "lightning"}} & set(sys.modules)
    print(sorted(heavy), "importing" in sys.stderr.getvalue())
    raise SystemExit(0)
command.{first} = stop
command.COMMAND.run({words}, "")
"""
FIRST = {
    "run": ("pipeline_of", ["strategy=fastv"]),
    "sweep": ("check", ["strategy=fastv", "keep=0.5"]),
    "bench": ("check", ["strategy=fastv", "out=x"]),
}


@pytest.mark.parametrize("command", FIRST)
def test_it_is_there_before_anything_heavy(command: str, tmp_path: Path) -> None:
    first, words = FIRST[command]
    done = subprocess.run(
        [sys.executable, "-c", BEGUN.format(command=command, first=first, words=words)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
    )
    assert done.stdout == "[] True\n", done.stderr
