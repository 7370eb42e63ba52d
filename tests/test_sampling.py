"""Frames spread evenly by number or by the clock: which they are, when they are shown, and that
records say so.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import levels, write_noise, write_video
from running import FAST, annotate, read

from tokenprune import tasks
from tokenprune.cli.main import main
from tokenprune.errors import ConfigError, LmmsError, TaskError, VideoError
from tokenprune.evaluation.config import parse
from tokenprune.lmms.arguments import Arguments
from tokenprune.loading.video import frame_indices, read_clip, read_frames, time_indices
from tokenprune.study.config import CellConfig
from tokenprune.study.sweep import parse_sweep
from tokenprune.tasks.clip import Clip

# 150 pictures, 100 of them in the first 2 of 37 seconds
BURST = [*range(0, 2000, 20), *range(2000, 37_000, 700)]


def test_by_the_clock_is_by_number_where_pictures_are_regular() -> None:
    for count in range(1, 60, 3):
        for frames in range(1, 40):
            for tick in (1, 512):
                assert time_indices([70 + tick * i for i in range(count)], frames) == frame_indices(
                    count, frames
                )


def test_a_clock_that_rounds() -> None:
    """Matroska has milliseconds: 30 frames a second are 0, 33, 67, 100."""
    assert time_indices([round(i * 1000 / 30) for i in range(31)], 4) == [0, 10, 20, 30]


def test_moments_are_spread_evenly_and_a_picture_is_taken_once() -> None:
    assert time_indices([0, 1, 2, 3, 30, 60], 3) == [0, 4, 5]
    assert time_indices([0, 1, 2, 3, 300, 6000], 5) == [0, 4, 5], (
        "the fifth picture is shown at three of the moments"
    )
    assert time_indices([0, 10, 4000], 8) == [0, 1, 2], "fewer than asked for: each once"
    assert time_indices([5, 6, 7], 1) == [0]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_clip_of_variable_rate(tmp_path: Path, name: str) -> None:
    path = write_noise(tmp_path / name, BURST, rate=50)
    by_number, by_clock = read_clip(path, 8), read_clip(path, 8, "time")
    assert by_number.times is not None and by_clock.times is not None
    assert sum(time <= 2 for time in by_number.times) == 5, (
        "five of eight within the first two seconds"
    )
    assert by_number.indices == tuple(frame_indices(150, 8))
    assert by_number.times == pytest.approx([BURST[i] / 1000 for i in by_number.indices], abs=0.002)
    last = BURST[-1] / 1000
    for number, time in enumerate(by_clock.times):
        assert number * last / 7 - 0.701 <= time <= number * last / 7 + 0.002, (
            "shown at that moment"
        )
    assert len(by_clock.frames) == 8
    every = read_frames(path, 1000)
    for clip in (by_number, by_clock):
        assert (clip.frames == every[list(clip.indices)]).all()


def test_times_begin_with_the_first_picture(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.mkv", range(90_000, 94_000, 100))
    assert read_clip(path, 5).times == pytest.approx((0.0, 0.9, 1.9, 2.9, 3.9))


def test_a_file_without_a_clock(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.h264", 12, "libx264")
    assert read_clip(path, 4).times is None
    with pytest.raises(
        VideoError, match=r"a\.h264 does not say when its pictures are shown: write sampling=index"
    ):
        read_clip(path, 4, "time")
    assert levels(read_clip(path, 40, "time").frames) == list(range(12)), (
        "all of them need no clock"
    )


def test_another_word() -> None:
    with pytest.raises(VideoError, match="sampling=even is unknown: write index or time"):
        read_clip("a.mp4", 8, "even")
    with pytest.raises(LmmsError, match="sampling=even is unknown: write index or time"):
        Arguments.parse({"pretrained": "tiny", "sampling": "even"})
    with pytest.raises(ConfigError, match="sampling=even is unknown: write index or time"):
        CellConfig(sampling="even")


def test_a_task_that_draws_its_frames_has_no_choice() -> None:
    with pytest.raises(
        TaskError, match="tinyvqa draws its frames itself, evenly in time: leave sampling=time out"
    ):
        tasks.build("tinyvqa", samples=2, frames=4, seed=0, sampling="time")


def test_two_samplings_never_share_a_name(tmp_path: Path) -> None:
    """What answers are reused for, what lmms-eval caches them under, and where a sweep keeps its
    cells.
    """
    task = annotate(tmp_path, {"a": write_video(tmp_path / "a.mp4")}).removeprefix("task=")
    made = [
        tasks.build(task, samples=None, frames=4, seed=0, sampling=how) for how in ("index", "time")
    ]
    assert made[0].fingerprint() != made[1].fingerprint()
    lines = [
        Arguments.parse({"pretrained": "tiny", "sampling": how}).line() for how in ("index", "time")
    ]
    assert "sampling=time" in lines[1] and lines[0] != lines[1]
    folders = [
        parse_sweep(["strategy=fastv", f"task={task}", f"sampling={how}"]).folder
        for how in ("index", "time")
    ]
    assert folders[0] != folders[1]


def test_evidence_follows_the_frames_that_were_taken(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.mkv", BURST, rate=50)
    entry = {
        "id": "a",
        "video": path.name,
        "question": "?",
        "answer": "yes",
        "frames": 150,
        "evidence": [107, 149],
    }
    (tmp_path / "a.json").write_text(json.dumps([entry]))
    for how in ("index", "time"):
        sample = tasks.build(
            f"files:{tmp_path / 'a.json'}", samples=None, frames=8, seed=0, sampling=how
        )[0]
        clip = read_clip(path, 8, how)
        assert sample.times == clip.times
        assert [clip.indices[place] for place in sample.evidence] == [
            i for i in (107, 149) if i in clip.indices
        ]


def test_records_say_which_and_when(tmp_path: Path) -> None:
    task = annotate(tmp_path, {"a": write_noise(tmp_path / "a.mkv", BURST, rate=50)})
    out = tmp_path / "out"
    assert (
        main(["run", task, *FAST, "strategy=random", "sampling=time", f"out={out}", "workers=0"])
        == 0
    )
    summary, (record,) = read(out)
    clip = read_clip(tmp_path / "a.mkv", 8, "time")
    assert clip.times is not None and record["frame_times"] == list(clip.times)
    assert "frame_times" not in record["random"] and summary["sampling"] == "time"
    assert "sampling: time" in (out / "config.yaml").read_text()


def test_a_run_and_one_clip_take_the_word(tmp_path: Path) -> None:
    assert parse(["strategy=fastv", "task=files:a.json"]).sampling == "index"
    assert (
        parse(["strategy=fastv", "video=a.mp4", "question=What?", "sampling=time"]).sampling
        == "time"
    )
    with pytest.raises(ConfigError, match="sampling=even is unknown: write index or time"):
        parse(["strategy=fastv", "sampling=even"])
    path = write_noise(tmp_path / "a.mkv", BURST, rate=50)
    assert Clip(str(path), "What?", 8, "time")[0].times == read_clip(path, 8, "time").times
