"""The benchmark as files: written, read back, and refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from tokenprune import tasks
from tokenprune.cli.export import ExportConfig
from tokenprune.cli.main import main
from tokenprune.tasks.questions import CATEGORIES

KEYS = {"id", "video", "question", "answer", "category", "metric", "frames", "evidence"}
SAMPLES = len(CATEGORIES)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export that several tests look at."""
    out = tmp_path_factory.mktemp("export") / "deep" / "shapes"
    assert (
        main(["data", "export", "tinyvqa", f"out={out}", f"n={SAMPLES}", "frames=8", "seed=5"]) == 0
    )
    return out


def read(file: Path, frames: int = 8) -> tasks.Task:
    return tasks.build(f"files:{file}", samples=None, frames=frames, seed=0)


def test_what_is_written(exported: Path) -> None:
    assert [path.name for path in exported.parent.iterdir()] == ["shapes"], "no draft"
    assert sorted(path.name for path in exported.iterdir()) == ["annotations.json", "videos"]
    whole = json.loads((exported / "annotations.json").read_text())
    assert whole["task"] == "tinyvqa" and whole["generator"]["seed"] == 5
    assert all(set(entry) == KEYS for entry in whole["samples"])
    assert {f"videos/{path.name}" for path in (exported / "videos").iterdir()} == {
        e["video"] for e in whole["samples"]
    }
    with av.open(str(exported / whole["samples"][0]["video"])) as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (96, 96, 8, 8)


def test_what_is_read_back(exported: Path) -> None:
    made, back = (
        tasks.build("tinyvqa", samples=SAMPLES, frames=8, seed=5),
        read(exported / "annotations.json"),
    )
    assert len(back) == SAMPLES and back.categories == made.categories
    for i in range(SAMPLES):
        a, b = made[i], back[i]
        for field in ("id", "question", "answer", "category", "metric", "evidence"):
            assert getattr(a, field) == getattr(b, field)
        assert b.frames.shape == a.frames.shape and b.frames.dtype == torch.uint8
        # measured: 1.9 of 255 on average over videos, and at most 2.5 in any frame
        assert (a.frames.float() - b.frames.float()).abs().mean((1, 2, 3)).max() < 3.5
        assert back.score(a.answer, b) == 1
    with pytest.raises(IndexError, match=f"sample {SAMPLES} of {SAMPLES}"):
        back[SAMPLES]


def test_fewer_frames_are_spread_evenly(exported: Path) -> None:
    """And evidence follows them."""
    whole, few = read(exported / "annotations.json"), read(exported / "annotations.json", 4)
    chosen = [0, 2, 4, 7]
    for i in range(SAMPLES):
        assert torch.equal(few[i].frames, whole[i].frames[chosen])
        assert few[i].evidence == tuple(
            chosen.index(frame) for frame in whole[i].evidence if frame in chosen
        )
    assert any(whole[i].evidence for i in range(SAMPLES))


def test_a_run_on_files(exported: Path, tmp_path: Path) -> None:
    task = f"task=files:{exported / 'annotations.json'}"
    fast = ["device=cpu", "frames=8", "max_new_tokens=2", "limit=2", f"out={tmp_path / 'out'}"]
    assert main(["run", "strategy=none", task, *fast]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["task"] == task.removeprefix("task=") and list(summary["categories"]) == [
        "existence",
        "colour",
    ]


def test_lines_of_ones_own(exported: Path, tmp_path: Path) -> None:
    """JSONL with the four fields that are needed, a blank line, and a field of somebody else's."""
    video = next((exported / "videos").iterdir())
    entry = {
        "id": "é",
        "video": str(video),
        "question": "What moves?",
        "answer": "a ring",
        "duration": 2,
    }
    (tmp_path / "own.jsonl").write_text(
        json.dumps(entry) + "\n\n" + json.dumps(entry | {"id": "b"}) + "\n"
    )
    task = read(tmp_path / "own.jsonl", 4)
    assert [task[i].id for i in range(len(task))] == ["é", "b"] and task.categories == ("all",)
    assert (
        task[0].frames.shape[0] == 4
        and task.score("A ring.", task[0]) == 1
        and task[0].evidence == ()
    )


def test_help_answers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And names every key, without a heavy import."""
    code = """if True:
        import sys
        from tokenprune.cli.main import main
        try:
            main(["data", "export", "--help"])
        except SystemExit as left:
            assert not left.code
        print("heavy:", sorted({"torch", "rich", "omegaconf", "av", "numpy"} & set(sys.modules)))"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.endswith("heavy: []\n") and "tokenprune data export tinyvqa out=shapes n=100" in out
    assert all(f"\n  {key.name} " in out for key in fields(ExportConfig) if key.name != "task")
    assert main(["data"]) == 0
    assert "export" in capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line said about a command that cannot be."""
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert (
        captured.out == ""
        and captured.err.startswith("tokenprune: error: ")
        and captured.err.count("\n") == 1
    )
    return captured.err


MISTAKES = {
    "": "nothing to export: write a task first",
    "tinyvqa": "nowhere to write to: add out=DIR",
    "tinyvqq out=a": "unknown task 'tinyvqq': did you mean",
    "tinyvqa out=a n=0": "n=0 is too few: write at least 1",
    "tinyvqa out=a n=ten": "n=ten is not a whole number: write n=NUMBER",
    "tinyvqa out=a size=97": "size=97 is odd, which H.264 cannot store: write size=98",
    "tinyvqa out=a size=64": "size must be at least 96",
    "tinyvqa out=a frames=3": "frames must be at least 8",
    "tinyvqa out=a frame=9": "unknown key 'frame': did you mean frames=?",
    "tinyvqa more out=a": "'more' is not KEY=VALUE",
    "tinyvqa out=a --n 3": "'--n' is not KEY=VALUE: write n=VALUE",
    "tinyvqa out=full": "out=full is not empty",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_an_export_that_cannot_be(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert MISTAKES[words] in fails(capsys, "data", "export", *words.split())
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "notes.txt"]


def test_an_interrupted_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokenprune.tasks.export.write_video", interrupted)
    assert main(["data", "export", "tinyvqa", f"out={tmp_path / 'a' / 'b'}", "n=1"]) == 130
    assert not list(tmp_path.iterdir())


GOOD = {"id": "a", "video": "a.mp4", "question": "What?", "answer": "red"}
ENTRIES: dict[str, tuple[Any, str]] = {
    "no field": (
        {key: value for key, value in GOOD.items() if key != "answer"},
        "the field 'answer' is missing",
    ),
    "no text": (GOOD | {"question": 3}, "the field 'question' has to be text, not 3"),
    "empty": (GOOD | {"answer": " "}, "the field 'answer' has to be text"),
    "no video": (GOOD | {"video": "b.mp4"}, "there is no video"),
    "no object": ("a.mp4", "a sample is an object with id, video, question and answer"),
    "metric": (
        GOOD | {"metric": "bleu"},
        "unknown metric 'bleu'; metrics: exact_match, event_f1, multiple_choice",
    ),
    "frames": (GOOD | {"frames": "8"}, "write a whole number above 0, not '8'"),
    "evidence": (GOOD | {"evidence": [1.5]}, "evidence is a list of frame numbers"),
    "evidence of what": (GOOD | {"evidence": [1]}, "add how many there are"),
    "evidence behind the end": (GOOD | {"evidence": [8], "frames": 8}, "add how many there are"),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_wrong_entry_is_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    entry, message = ENTRIES[kind]
    (tmp_path / "x.json").write_text(json.dumps({"samples": [GOOD, entry]}))
    (tmp_path / "x.jsonl").write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(entry)}\n")
    for name, place in (("x.json", "sample 2"), ("x.jsonl", "line 3")):
        with pytest.raises(ValueError, match=rf"{name}, {place}: ") as caught:
            read(tmp_path / name)
        assert message in str(caught.value)


FILES = {
    "broken.json": ('{"samples": [\n{"id": }]}', "broken.json, line 2: not valid JSON"),
    "broken.jsonl": ("\n\n{", "broken.jsonl, line 3: not valid JSON"),
    "other.json": ('{"rows": []}', 'neither a list of samples nor an object with a list "samples"'),
    "none.json": ("[]", "none.json holds no samples"),
    "twice.json": (json.dumps([GOOD, GOOD]), "samples 1 and 2 have the same id 'a'"),
    "absent.json": (None, "there is no annotations file"),
    "latin.json": (b"\xe9", "latin.json, line 1: this is not text in UTF-8"),
    "gone.json": (json.dumps([GOOD | {"video": "gone.mp4"}]), "there is no video"),
    "damaged.json": (json.dumps([GOOD]), "a.mp4 is not a video, or a truncated or corrupt one"),
}


def test_wrong_files_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for name, (text, message) in FILES.items():
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        assert main(["run", "strategy=none", f"task=files:../{name}", "on_error=stop"]) == 2
        captured = capsys.readouterr()
        said = captured.err.splitlines()[-1]
        assert captured.out == "" and message in said and said.startswith("tokenprune: error: "), (
            name
        )
        assert not list(work.iterdir())
    for words, message in {
        ("task=../none.json",): "for an annotations file write files:../none.json",
        ("task=files:../damaged.json", "samples=3"): "write limit= to use fewer",
    }.items():
        assert message in fails(capsys, "run", "strategy=none", *words)
