"""Evaluation on video files: what cannot be read, what is of unequal length, and decoding in other
processes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import bad_files, write_video
from running import FAST, annotate, read

from tokenprune.cli.main import main
from tokenprune.errors import TaskError
from tokenprune.loading.media import Medium
from tokenprune.tasks.files import Files


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six good videos, of 4 to 24 frames, and nine that cannot be read, in between."""
    folder = tmp_path_factory.mktemp("mixed")
    good = {
        f"good {n}": write_video(folder / f"good{n}.mp4", frames=n) for n in (4, 24, 5, 6, 22, 23)
    }
    bad = {name: path for name, (path, _) in bad_files(folder).items() if path.is_file()}
    return annotate(folder, dict(sorted({**good, **bad}.items(), key=lambda item: item[0][::-1])))


def test_a_corrupt_video_is_a_record(
    mixed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", mixed, "strategy=fastv", *FAST, f"out={out}"]) == 0
    summary, records = read(out)
    failed = [record for record in records if record["strategy"]["error"]]
    assert len(records) == summary["samples"] == 15 and len(failed) == summary["errors"] == 9
    for record in failed:
        assert (
            record["strategy"]["score"] is None
            and record["strategy"]["tokens"] == {}
            and record["question"].startswith("What moves")
        )
        assert (
            record["strategy"]["error"] == record["vanilla"]["error"] == record["random"]["error"]
        )
    shown = capsys.readouterr().out
    assert "9 of 15 samples could not be evaluated" in shown


def test_or_stops_the_run(mixed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", mixed, "strategy=fastv", *FAST, f"out={out}", "on_error=stop"]) == 2
    error = capsys.readouterr().err
    assert "tokenprune: error: sample " in error and "on_error=record goes on without it" in error


def test_nothing_but_corrupt_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert (
        main(
            [
                "run",
                annotate(tmp_path, {"a": empty, "b": empty}),
                "strategy=fastv",
                *FAST,
                f"out={tmp_path / 'out'}",
            ]
        )
        == 0
    )
    summary, _ = read(tmp_path / "out")
    assert summary["systems"]["strategy"]["score"] is None and summary["errors"] == 2
    assert "2 of 2 samples could not be evaluated" in capsys.readouterr().out


@pytest.mark.parametrize("strategy", ["fastv", "dycoke+dytok"])
def test_a_batch_gives_each_sample_what_it_gets_alone(
    strategy: str, mixed: str, tmp_path: Path
) -> None:
    """Videos and questions of different lengths, decoded by two other processes."""
    words = ["run", mixed, *FAST, f"strategy={strategy}"]
    assert main([*words, f"out={tmp_path / 'alone'}", "workers=0"]) == 0
    assert main([*words, f"out={tmp_path / 'batch'}", "batch_size=5", "workers=2"]) == 0
    alone, batch = (read(tmp_path / name)[1] for name in ("alone", "batch"))
    for one, other in zip(alone, batch, strict=True):
        for role in ("strategy", "vanilla", "random"):
            for record in (one, other):
                del record[role]["time"]
                weights = record[role]["tokens"].pop("frame_weights", None)
                record[role]["tokens"]["frame_weights"] = weights and [
                    round(weight, 4) for weight in weights
                ]
        assert one == other


def annotated(folder: Path, **fields: Any) -> Path:
    """One sample, with these fields besides."""
    sample = {"id": "1", "question": "What is in both?", "answer": "red", **fields}
    (folder / "samples.jsonl").write_text(json.dumps(sample))
    return folder / "samples.jsonl"


def test_a_sample_may_show_several_videos_and_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, frames in (("a.mp4", 9), ("b.mp4", 4)):
        write_video(tmp_path / name, frames=frames)
    image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "p.png")
    alone = Files(annotated(tmp_path, video="a.mp4"), frames=6)
    assert alone[0].media == () and isinstance(alone[0].shown, Medium)
    both = Files(annotated(tmp_path, video=["a.mp4", "b.mp4"], images=["p.png"]), frames=6)
    picture, first, second = both[0].media
    assert isinstance(picture, torch.Tensor) and picture.shape == (20, 30, 3)
    assert picture[5, 5].tolist() == [200, 10, 10]
    assert isinstance(first, Medium) and torch.equal(first.frames, alone[0].frames)
    assert isinstance(second, Medium) and len(second.frames) == 4
    assert first.times == alone[0].times == both[0].times
    assert both.label(0).group == "a.mp4"
    assert both.fingerprint()["videos"] != alone.fingerprint()["videos"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"video": []}, "video is a file, or a list of files"),
        ({"video": ["a.mp4", 3]}, "video is a file, or a list of files"),
        ({"video": ["a.mp4", "gone.mp4"]}, "there is no video .*gone.mp4"),
        ({"video": "a.mp4", "images": "gone.png"}, "images: there is no file .*gone.png"),
        ({"images": ["a.mp4"]}, "the field 'video' is missing"),
    ],
)
def test_lists_of_files_are_checked(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=4)
    with pytest.raises(TaskError, match=said):
        Files(annotated(tmp_path, **fields), frames=4)
