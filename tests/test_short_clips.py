"""Videos with fewer frames than asked for: each frame once, or as the papers' codes have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import levels, write_noise, write_video
from running import FAST, annotate, read

from tokenprune import tasks
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError, LmmsError, TaskError, VideoError
from tokenprune.evaluation.config import parse
from tokenprune.lmms.arguments import Arguments
from tokenprune.loading.video import frame_indices, read_clip, time_indices
from tokenprune.study.config import CellConfig
from tokenprune.study.sweep import parse_sweep
from tokenprune.tasks import Label, Sample, Task
from tokenprune.tasks.clip import Clip


def test_repeat_is_numpys_linspace_as_integers() -> None:
    for count in range(1, 200):
        for frames in (1, 8, 32, 64):
            expected = np.linspace(0, count - 1, frames, dtype=int).tolist()
            assert frame_indices(count, frames, "repeat") == expected
    assert frame_indices(3, 8, "repeat") == [0, 0, 0, 0, 1, 1, 1, 2], "eight of three"
    assert frame_indices(3, 8) == [0, 1, 2], "the default: every one once"
    assert frame_indices(1, 4, "repeat") == [0] * 4


def test_by_the_clock_a_picture_is_shown_again() -> None:
    assert time_indices([0, 10, 4000], 5, "repeat") == [0, 1, 1, 1, 2]
    assert time_indices([7], 3, "repeat") == [0, 0, 0]
    assert time_indices([0, 1, 2, 3, 300, 6000], 5, "repeat") == [0, 4, 4, 4, 5]


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
@pytest.mark.parametrize("sampling", ["index", "time"])
def test_a_short_clip_has_as_many_frames_as_asked_for(
    tmp_path: Path, name: str, sampling: str
) -> None:
    """Also where it is decoded from the start to the end, as MPEG-TS."""
    path = write_noise(tmp_path / name, range(0, 500, 100), rate=10)
    once, repeated = read_clip(path, 12, sampling), read_clip(path, 12, sampling, "repeat")
    assert once.indices == (0, 1, 2, 3, 4) and len(repeated.frames) == 12
    assert repeated.indices == tuple(frame_indices(5, 12, "repeat"))
    assert (repeated.frames == once.frames[list(repeated.indices)]).all()
    assert repeated.times is not None and once.times is not None
    assert repeated.times == tuple(once.times[place] for place in repeated.indices)
    assert repeated.duration == once.duration


def test_a_file_without_a_clock_repeats_by_number_only(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.h264", 3, "libx264")
    assert levels(read_clip(path, 6, "index", "repeat").frames) == [0, 0, 0, 1, 1, 2]
    with pytest.raises(VideoError, match="does not say when its pictures are shown"):
        read_clip(path, 6, "time", "repeat")


def test_another_word() -> None:
    with pytest.raises(VideoError, match="short=pad is unknown: write once or repeat"):
        read_clip("a.mp4", 8, short="pad")
    with pytest.raises(LmmsError, match="short=pad is unknown: write once or repeat"):
        Arguments.parse({"pretrained": "tiny", "short": "pad"})
    with pytest.raises(ConfigError, match="short=pad is unknown: write once or repeat"):
        CellConfig(short="pad")
    with pytest.raises(ConfigError, match="short=pad is unknown: write once or repeat"):
        parse(["strategy=fastv", "short=pad"])


def test_tasks_that_have_no_choice_say_so() -> None:
    class Blank(Task, name="blank"):
        """Reads files, and was written before `short` was a word."""

        def __init__(
            self, *, samples: int | None, frames: int, seed: int, sampling: str = "index"
        ) -> None:
            del samples, frames, seed, sampling

        def __len__(self) -> int:
            return 0

        def __getitem__(self, index: int) -> Sample:
            raise IndexError(index)

        def label(self, index: int) -> Label:
            raise IndexError(index)

        def fingerprint(self) -> dict[str, str]:
            return {}

    with pytest.raises(TaskError, match=r"tinyvqa draws its frames itself.*leave short=repeat out"):
        tasks.build("tinyvqa", samples=2, frames=4, seed=0, short="repeat")
    with pytest.raises(TaskError, match="blank takes no short=: leave short=repeat out"):
        tasks.build("blank", samples=2, frames=4, seed=0, short="repeat")
    assert isinstance(tasks.build("blank", samples=2, frames=4, seed=0), Blank)


def test_two_ways_never_share_a_name(tmp_path: Path) -> None:
    """What answers are reused for, what lmms-eval caches them under, and where a sweep keeps its
    cells.
    """
    task = annotate(tmp_path, {"a": write_video(tmp_path / "a.mp4")}).removeprefix("task=")
    made = [
        tasks.build(task, samples=None, frames=4, seed=0, short=how) for how in ("once", "repeat")
    ]
    assert made[0].fingerprint() != made[1].fingerprint()
    lines = [
        Arguments.parse({"pretrained": "tiny", "short": how}).line() for how in ("once", "repeat")
    ]
    assert "short=repeat" in lines[1] and lines[0] != lines[1]
    folders = [
        parse_sweep(["strategy=fastv", f"task={task}", f"short={how}"]).folder
        for how in ("once", "repeat")
    ]
    assert folders[0] != folders[1]


def test_a_run_shows_as_many_as_asked_for_and_says_so(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.mkv", range(0, 300, 100), rate=10)
    out = tmp_path / "out"
    words = [annotate(tmp_path, {"a": path}), "strategy=none", "short=repeat", f"out={out}"]
    assert main(["run", *FAST, *words, "workers=0"]) == 0
    summary, (record,) = read(out)
    assert summary["short"] == "repeat" and "short: repeat" in (out / "config.yaml").read_text()
    clip = read_clip(path, 8, short="repeat")
    assert clip.times is not None and record["frame_times"] == list(clip.times)
    assert len(clip.times) == 8 and record["vanilla"]["tokens"]["full"] == 8 * 36
    sample = Clip(str(path), "What?", 8, "index", "repeat")[0]
    assert len(sample.frames) == 8
