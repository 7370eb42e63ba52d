"""A question about one video: without Lightning, and the same as with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clips import write_video
from running import FAST, lasting

from tokenprune.cli.main import main
from tokenprune.evaluation.asking import Asking

ROOT = Path(__file__).parent.parent
HEAVY = ("lightning", "torchmetrics")  # what a question about a video has no use for
# runs a command, then says which of these packages were imported
WATCHED = f"""
import sys
from tokenprune.cli.main import main
status = main(sys.argv[1:])
loaded = {{name.partition(".")[0] for name in sys.modules}}
print("LOADED", *sorted(loaded & {set(HEAVY)!r}))
sys.exit(status)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4")


def words(clip: Path, out: Path, *more: str) -> list[str]:
    asked = [f"video={clip}", "question=What moves?", f"out={out}"]
    return ["run", "strategy=fastv+dytok", *asked, *FAST, *more]


def test_it_imports_no_lightning_and_shows_no_bar(clip: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words(clip, tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert "it/s" not in done.stderr and "━" not in done.stderr
    told = done.stderr.partition(" A model that sees them:")[0]
    assert told.startswith("note on clip.mp4: tiny knows coloured shapes that move, and nothing")
    assert max(map(len, done.stderr.splitlines())) <= 80


def test_lightning_would_get_the_same(clip: Path, tmp_path: Path) -> None:
    """A key of its trainer asks for it, and changes nothing else."""
    assert main(words(clip, tmp_path / "alone")) == 0
    assert main(words(clip, tmp_path / "trained", "trainer.devices=1")) == 0
    (alone, one), (trained, other) = lasting(tmp_path / "alone"), lasting(tmp_path / "trained")
    assert alone["systems"] == trained["systems"]
    assert one == other and one[0]["vanilla"]["prediction"]


def test_what_was_answered_before_it_ended_is_not_asked_again(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, asked, real = tmp_path / "out", [], Asking.answers

    def breaks(self: Asking, batch: Any) -> Any:
        asked.append(self.role)
        if self.role == "random" and asked.count("random") == 1:
            raise OSError("the disk is gone")
        return real(self, batch)

    monkeypatch.setattr(Asking, "answers", breaks)
    assert main(words(clip, out)) == 2
    said = capsys.readouterr().err
    assert "2 answers are kept: go on with: tokenprune run resume=" in said
    assert main(["run", f"resume={out}"]) == 0
    assert asked == ["vanilla", "strategy", "random", "random"]
    record = json.loads((out / "records.jsonl").read_text())
    assert all(record[role]["error"] is None for role in ("vanilla", "strategy", "random"))
