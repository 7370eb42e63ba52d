"""Shells complete commands, keys and values, without anything heavy."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tokenprune import registry
from tokenprune.cli.candidates import candidates, fields_of
from tokenprune.cli.completion import SCRIPTS
from tokenprune.cli.main import COMMANDS, main
from tokenprune.lookup import STRATEGIES

ROOT = Path(__file__).parent.parent
ALL = [importlib.import_module(f"tokenprune.cli.{name}").COMMAND for name in COMMANDS]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is around where words are completed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    for name in ("clip.mp4", "clips/a.mp4", ".hidden"):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("r", ["reproduce", "run"]),
        ("d", ["data", "demo", "draw"]),
        ("data ", ["export"]),
        ("data export ti", ["tinyvqa"]),
        ("run str", ["strategy="]),
        ("run strategy=fastv str", []),
        ("run strategy=fastv", ["strategy=fastv", "strategy=fastvid"]),
        ("run strategy=fastv+dyt", ["strategy=fastv+dytok"]),
        ("run strategy=dytok+dyt", []),
        ("sweep strategy=fastv,dyt", ["strategy=fastv,dytok"]),
        ("run strategy=fastv+dytok fas", ["fastv.drop=", "fastv.layer="]),
        ("run model=t", ["model=tiny"]),
        ("run model=cli", ["model=clip.mp4", "model=clips/"]),
        ("run video=cli", ["video=clip.mp4", "video=clips/"]),
        ("run video=clips/", ["video=clips/a.mp4"]),
        ("run task=", ["task=files:", "task=lmms:", "task=tinyvqa"]),
        ("run task=files:cl", ["task=files:clip.mp4", "task=files:clips/"]),
        ("run trainer.p", ["trainer.precision="]),
        ("sweep strategy=fastv trainer.", ["trainer.logger="]),
        ("sweep slurm.p", ["slurm.partition="]),
        ("study launcher=s", ["launcher=shared", "launcher=submitit"]),
        ("run trainer.logger=t", ["trainer.logger=tensorboard"]),
        ("run reuse=", ["reuse=false", "reuse=true"]),
        ("run det", ["details="]),
        ("bench details=t", ["details=true"]),
        ("view cl", ["clip.mp4", "clips/"]),
        ("completion ", ["bash", "fish", "zsh"]),
        ('run question="what mo', []),
        ("lmms ", []),
        ("absent ", []),
    ],
)
def test_what_a_line_may_end_with(line: str, found: list[str]) -> None:
    assert candidates(f"tokenprune {line}", ALL) == found


def test_every_command_completes_its_keys() -> None:
    for command in ALL:
        if command.schema is None:
            continue
        known = {one.name for one in dataclasses.fields(command.schema) if one.metadata.get("help")}
        found = candidates(f"tokenprune {command.name} ", ALL)
        assert {f"{name}=" for name in known} <= set(found), command.name


@pytest.mark.parametrize("name", sorted(STRATEGIES.builtin))
def test_options_read_in_the_text_are_those_of_the_class(name: str) -> None:
    kind: Any = registry.get(name)
    assert fields_of(name) == [one.name for one in dataclasses.fields(kind)]


BASH = """
tokenprune() {{ {python} -m tokenprune "$@"; }}
{script}
COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({words}); COMP_CWORD={last}
_tokenprune
printf '%s|' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("line", "words", "found"),
    [
        ("tokenprune ru", ["tokenprune", "ru"], "run |"),
        ("tokenprune run str", ["tokenprune", "run", "str"], "strategy=|"),
        # as bash cuts it
        ("tokenprune run model=", ["tokenprune", "run", "model", "="], "clip.mp4 |clips/|nano |"),
        ("tokenprune run strategy=fastv+dyt", ["tokenprune", "run", "strategy", "=", "fastv+dyt"],
         "fastv+dytok |"),
        # and where it was told not to
        ("tokenprune run strategy=unif", ["tokenprune", "run", "strategy=unif"],
         "strategy=uniform |"),
    ],
)  # fmt: skip
def test_bash(line: str, words: list[str], found: str) -> None:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("there is no bash")
    said = subprocess.run(
        [bash, "--norc", "-c", BASH.format(
            python=shlex.quote(sys.executable),
            script=SCRIPTS["bash"],
            line=shlex.quote(line),
            words=shlex.join(words),
            last=len(words) - 1,
        )],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert said.stdout == found or said.stdout.startswith(found), said.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    subprocess.run([shell, "-n", "-c", script], check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["completion"], ["completion", "cmd"], ["completion", "bash", "zsh"]):
        assert main(words) == 2
        assert "Write one of bash, zsh, fish" in capsys.readouterr().err


def test_nothing_heavy_is_imported() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'rich', 'matplotlib'}"
    code = (
        "import sys; from tokenprune.cli.main import main; "
        "main(['completion', 'words', 'tokenprune run strategy=visionzip vis']); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    *words, loaded = done.stdout.splitlines()
    assert "visionzip.merge=" in words and loaded == "[]"
