"""`tokenprune draw`: a run's record over the frames it was made of, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from clips import write_video
from running import annotate

from tokenprune.cli.main import main
from tokenprune.pictures import of_run
from tokenprune.pictures.of_run import Asked, draw_run
from tokenprune.results.read import read_run

pytest.importorskip("matplotlib")
QUICK = ["device=cpu", "frames=8", "max_new_tokens=2"]
NEEDLE = "tinyvqa-0-8-00008"


@pytest.fixture
def finished(nine_samples, tmp_path) -> Path:
    return Path(shutil.copytree(nine_samples, tmp_path / "nine"))


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


def test_the_control_stands_above_the_strategy_with_its_evidence(finished, capsys):
    record = read_run(finished).records[8]
    assert main(["draw", str(finished), f"sample={NEEDLE}"]) == 0
    said, file = capsys.readouterr().out, finished / "figures" / f"{NEEDLE}.png"
    assert file.stat().st_size > 10_000 and f"wrote {file}" in said
    budgets = ", ".join(map(str, record["strategy"]["tokens"]["kept_per_frame"]))
    assert f"visionzip+dytok: 72 of 288 tokens, by frame {budgets}." in said
    assert said.index("random: 72 of 288") < said.index("visionzip+dytok:")
    assert f"Evidence: frame {record['evidence'][0] + 1}." in said


def test_frames_are_made_again_and_weights_are_the_records(finished, tmp_path, monkeypatch):
    drawn = []

    def spy(systems, footage, title):
        drawn.append((systems, footage))
        return draw(systems, footage, title)

    draw = of_run.over_footage
    monkeypatch.setattr(of_run, "over_footage", spy)
    draw_run(Asked(str(finished), "8", ["visionzip+dytok", "vanilla"], str(tmp_path / "a.svg"), 50))
    ((systems, footage),) = drawn
    record = read_run(finished).records[8]
    assert [one.label for one in systems] == ["visionzip+dytok", "vanilla"]
    assert systems[0].weights == record["strategy"]["tokens"]["frame_weights"]
    assert systems[0].answer == record["strategy"]["prediction"]
    assert len(footage) == 8 and footage.evidence == tuple(record["evidence"])
    from tokenprune.tasks.tinyvqa import TinyVQA

    right = TinyVQA(frames=8)[8].frames
    assert all((a == b).all() for a, b in zip(footage.pictures, right, strict=True))


def test_a_folder_of_cells_is_drawn_by_their_names(finished, tmp_path, capsys):
    """Cells are run folders: two of them as a sweep leaves them."""
    for name in ("one", "two"):
        copied(finished, tmp_path / "sweep/cells").rename(tmp_path / f"sweep/cells/{name}")
    words = ["draw", str(tmp_path / "sweep"), "sample=8"]
    assert main(words) == 2
    assert "write strategy=A,B with some of one, two\n" in capsys.readouterr().err
    assert main([*words, "strategy=random"]) == 2
    assert "strategy=random names 2 systems" in capsys.readouterr().err


def test_files_and_plug_ins_are_found_again(tmp_path, capsys):
    video = write_video(tmp_path / "v.mp4", 20)
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from tokenprune.strategies.uniform import Uniform\n\n\n"
        "@dataclass(frozen=True)\n"
        'class Mine(Uniform, name="mine"):\n'
        '    """Mine."""\n'
    )
    task, out = annotate(tmp_path, {"v": video}), tmp_path / "run"
    words = ["strategy=mine", "mine.keep=0.5", f"plugin={plugin}", task, f"out={out}", *QUICK]
    assert main(["run", *words]) == 0
    plugin.unlink()
    capsys.readouterr()
    assert main(["draw", str(out), "sample=v", f"out={tmp_path / 'v.pdf'}"]) == 0
    assert "mine: 144 of 288 tokens" in capsys.readouterr().out
    write_video(video, 12)
    assert main(["draw", str(out), "sample=v", f"out={tmp_path / 'w.pdf'}"]) == 2
    assert "are others than when" in (error := capsys.readouterr().err) and "videos" in error
    assert not (tmp_path / "w.pdf").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no sample to draw: add sample=ID"),
        (["sample=99"], "sample=99 is none of the 9 samples"),
        (["sample=tinyvqa-0-8-0008"], "as in sample=tinyvqa-0-8-0000"),
        (["sample=8", "strategy=visionzp+dytok"], "did you mean visionzip+dytok?"),
        (["sample=8", "out=a.jpg"], "write a name that ends in .png"),
        (["sample=8", "dpi=3"], "write dpi=150"),
        (["sample=8", "frames=8"], "unknown key 'frames'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(finished, capsys, words, says):
    assert main(["draw", str(finished), *words]) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path, capsys):
    assert main(["draw", str(tmp_path), "sample=1"]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["draw"]) == 2
    assert "no run to draw" in capsys.readouterr().err


def test_a_sample_without_an_answer_says_why(finished, tmp_path, capsys):
    folder = copied(finished, tmp_path)
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    lines[0]["strategy"] |= {"error": "torn file", "tokens": {}}
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert main(["draw", str(folder), "sample=0"]) == 2
    assert (
        "visionzip+dytok has no answer to tinyvqa-0-8-00000: torn file" in capsys.readouterr().err
    )


def test_another_versions_task_is_refused(finished, tmp_path, capsys):
    folder = copied(finished, tmp_path)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("    version: 3", "    version: 2"))
    assert main(["draw", str(folder), "sample=0"]) == 2
    assert "(version): put them back, or run it again" in capsys.readouterr().err
