"""What tokenprune says where lmms-eval is not installed, and that nothing needs it before it is
asked for.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tokenprune import tasks
from tokenprune.errors import LmmsError, StrategyError
from tokenprune.lmms.arguments import Arguments
from tokenprune.lmms.command import run

absent = pytest.mark.skipif(
    find_spec("lmms_eval") is not None, reason="lmms-eval is installed here"
)
INSTALL = r"lmms-eval is not installed: pip install 'tokenprune-video\[lmms\]'"


@absent
def test_a_task_of_lmms_eval_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=INSTALL):
        tasks.build("lmms:videomme", samples=None, frames=8, seed=0)


@absent
def test_the_command_says_what_to_install() -> None:
    with pytest.raises(LmmsError, match=INSTALL):
        run(["--tasks", "videomme"])


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, tokenprune.lmms, tokenprune.tasks; print({'lmms_eval', 'datasets'} & "
        "sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_does_not_go_with_a_task_of_lmms_eval() -> None:
    with pytest.raises(ValueError, match="lmms-eval has its own: write limit="):
        tasks.build("lmms:videomme", samples=3, frames=8, seed=0)
    with pytest.raises(
        ValueError, match="include_path= is a folder of lmms-eval tasks, and tinyvqa is not one"
    ):
        tasks.build("tinyvqa", samples=3, frames=8, seed=0, include_path=".")


def test_a_line_says_everything_and_means_the_same() -> None:
    words = {
        "pretrained": "tiny",
        "strategy": "fastv+dytok",
        "fastv.drop": 0.25,
        "dytok.layers": "[2,3]",
    }
    line = Arguments.parse(words).line()
    assert "fastv.drop=0.25" in line and "dytok.layers=[2,3]" in line and "dytok.cap=none" in line
    assert "version=" in line and "max_frames_num=32" in line
    back = dict(word.split("=", 1) for word in line.replace("[2,3]", "[2;3]").split(","))
    typed = {key: _guessed(value.replace(";", ",")) for key, value in back.items()}
    assert Arguments.parse(typed).line() == line
    assert Arguments.parse(typed).pipeline() == Arguments.parse(words).pipeline()


def test_arguments_without_a_strategy_are_the_full_model() -> None:
    assert str(Arguments.parse({"pretrained": "tiny"}).pipeline()) == "none"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({}, "write pretrained=NAME"),
        ({"pretrained": "tiny", "frames": 3}, "did you mean max_frames_num=?"),
        ({"pretrained": "tiny", "strategi": "fastv"}, "did you mean strategy=?"),
        ({"pretrained": "tiny", "max_frames_num": 0.5}, "max_frames_num=0.5 is not a whole number"),
        ({"pretrained": "tiny", "max_new_tokens": 0}, "write at least 1"),
        ({"pretrained": "tiny", "on_error": "skip"}, "write stop or empty"),
        ({"pretrained": "tiny", "version": "0.0.1"}, "version=0.0.1 wrote these arguments"),
        (
            {"pretrained": "tiny", "strategy": "dytok", "dytok.layers": "[2,"},
            "'dytok.layers=[2,' cannot be read",
        ),
        ({"pretrained": "tiny", "strategy": "fastv", "assistant": "tiny"}, "guides an allocator"),
    ],
)
def test_arguments_that_mean_nothing(words: dict[str, object], reason: str) -> None:
    with pytest.raises(LmmsError) as error:
        Arguments.parse(words).pipeline()
    assert reason in str(error.value)


def test_options_of_strategies_are_checked_as_everywhere() -> None:
    with pytest.raises(StrategyError, match=r"fastv\.drop is float"):
        Arguments.parse(
            {"pretrained": "tiny", "strategy": "fastv", "fastv.drop": "much"}
        ).pipeline()


def _guessed(value: str) -> object:
    """Types as lmms-eval's parser guesses them."""
    if value in ("true", "false"):
        return value == "true"
    if value.isnumeric():
        return int(value)
    try:
        return float(value)
    except ValueError:
        return value
