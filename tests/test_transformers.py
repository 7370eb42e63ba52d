"""transformers' own processors and pipelines around attached models: docs/transformers.md.

Where torchvision is not installed a stand-in resizes with the same function of torch: transformers
asks once whether there is one, so this runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clips import write_video

from experiments.tiny.settings import settings
from tokenprune import checkpoints

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's code has left, and what a check behind it found."""
    pytest.importorskip("PIL", reason="transformers' image processors need pillow")
    folder = tmp_path_factory.mktemp("page")
    write_video(folder / "clip.mp4", frames=40)
    page = HERE.parent / "docs/transformers.md"
    if not page.is_file():
        pytest.skip("not a checkout: the documentation is not here")
    done = subprocess.run(
        [sys.executable, HERE / "stand_in/page.py", page],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("FOUND ")[2])


def test_the_page_runs(found: dict[str, Any]) -> None:
    assert found["attached"] > 0
    assert found["piped"]
    assert found["ratio"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("frames", ["its own size", "another size"])
def test_auto_processor_makes_our_prompts(found: dict[str, Any], frames: str) -> None:
    assert found[frames] == [True, 0.0]


def test_answers_are_those_of_ask(found: dict[str, Any]) -> None:
    ours, theirs = found["answers"]
    assert ours == theirs


def test_auto_processor_takes_images_too(found: dict[str, Any]) -> None:
    assert found["of a picture"]


@pytest.mark.parametrize("name", ["nano", "tiny"])
def test_settings_are_those_that_training_writes(name: str) -> None:
    folder = checkpoints.path(name)
    written = settings(json.loads((folder / "config.json").read_text()))
    assert len(written) == 3
    for file, content in written.items():
        assert json.loads((folder / file).read_text()) == content
