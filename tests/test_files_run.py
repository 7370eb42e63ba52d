"""Evaluation on video files: what cannot be read, what is of unequal length, and decoding in other
processes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import bad_files, write_video
from running import FAST, annotate, read

from tokenprune.cli.main import main


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
