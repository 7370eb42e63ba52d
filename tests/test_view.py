"""`tokenprune view`: what the page of a run says, and that it never costs a run anything."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from clips import write_video
from running import annotate

from tokenprune.cli.main import main
from tokenprune.cli.view import look
from tokenprune.evaluation.config import parse
from tokenprune.evaluation.run import Finished
from tokenprune.results.headline import headline
from tokenprune.results.read import read_run
from tokenprune.storage import replace
from tokenprune.tasks.tinyvqa import TinyVQA
from tokenprune.view import answers, contact, figures, frames, write
from tokenprune.view.answers import FAILED, GAINED, LOST, OTHER, PARTLY, RIGHT, SAME, WRONG

QUICK = ["device=cpu", "frames=8", "max_new_tokens=2"]


@pytest.fixture
def finished(nine_samples) -> Path:
    return nine_samples


def changed(folder: Path, to: Path, **own: dict[str, object]) -> Path:
    """A copy whose records say otherwise: `s3={"prediction": ...}` of sample 3's strategy."""
    copy = Path(shutil.copytree(folder, to / "copy"))
    file = copy / "records.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        for part in ("vanilla", "strategy"):
            line[part] |= {"prediction": "red", "score": 1.0}
    for name, values in own.items():
        lines[int(name[1:])]["strategy"] |= values
    replace(file, "".join(json.dumps(line) + "\n" for line in lines))
    return copy


def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_run_writes_its_page_and_says_where_unless_it_is_told_not_to(finished, tmp_path, capsys):
    assert (finished / "report.html").stat().st_size < 1_000_000  # and its last line said so
    words = ["strategy=fastv", "samples=2", *QUICK]
    assert main(["run", *words, "report=false", f"out={tmp_path / 'without'}"]) == 0
    assert not (tmp_path / "without" / "report.html").exists()
    assert "report.html" not in capsys.readouterr().out
    assert main(["run", *words, f"out={tmp_path / 'with'}"]) == 0
    assert f"Look at it in {tmp_path / 'with' / 'report.html'}\n" in capsys.readouterr().out


def test_a_resumed_run_may_leave_its_page_out(finished):
    assert parse([f"resume={finished}"]).report is True
    assert parse([f"resume={finished}", "report=false"]).report is False


def test_the_page_says_what_the_run_says(finished):
    html, run = page(finished), read_run(finished)
    for line in headline(run.summary):
        assert line.replace("'", "&#39;") in html
    assert run.summary.setting.note is not None
    assert run.summary.setting.note.replace("'", "&#39;") in html
    for part in (
        "mean over categories of their mean scores",
        "tower and projector",
        "transformers",
    ):
        assert part in html
    assert html.count('class="tp-sheet"') == 2 * 9, "strategy and control, samples being few"
    record = run.records[8]["strategy"]
    sample = html.partition('id="s8"')[2].partition("</details>")[0]
    counts = re.findall(r"<b>(\d+)/36</b>", sample)[:8]
    assert list(map(int, counts)) == record["tokens"]["kept_per_frame"]
    assert "holds what is asked about" in sample
    assert not re.search(r"https?://(?!www\.w3\.org)|<link|@import|src=", html)


def test_answers_that_changed_come_first(finished, tmp_path):
    copy = changed(
        finished,
        tmp_path,
        s1={"prediction": "RED "},
        s2={"prediction": "blue"},
        s4={"prediction": "no", "score": 0.5},
        s6={"error": "VideoError: gone", "prediction": "", "score": None, "tokens": {}, "time": {}},
    )
    file = copy / "records.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[3]["vanilla"]["score"] = 0.0
    replace(file, "".join(json.dumps(line) + "\n" for line in lines))
    found = answers.samples(read_run(copy))
    states = [(one.place, one.state) for one in found]
    assert states[:4] == [(4, LOST), (3, GAINED), (2, OTHER), (6, FAILED)]
    assert [place for place, _ in states[4:]] == [0, 1, 5, 7, 8]
    assert {state for _, state in states[4:]} == {SAME}
    assert answers.counted(found) == [(LOST, 1), (GAINED, 1), (OTHER, 1), (FAILED, 1), (SAME, 5)]
    write.write(copy)
    order = [int(place) for place in re.findall(r'class="sample" id="s(\d)"', page(copy))]
    assert order == [4, 3, 2, 6, 0, 1, 5, 7, 8]
    assert "VideoError: gone" in page(copy)


def test_answers_are_text_and_never_markup(finished, tmp_path):
    copy = changed(finished, tmp_path, s0={"prediction": "<script>alert(1)</script>"})
    write.write(copy)
    assert "<script>alert" not in page(copy) and "&lt;script&gt;alert" in page(copy)


def test_the_full_model_alone_has_its_wrong_answers_first(tmp_path):
    words = ["run", "strategy=none", "samples=3", *QUICK]
    assert main([*words, f"out={tmp_path}/a"]) == 0
    found = answers.samples(read_run(tmp_path / "a"))
    order = [[WRONG, PARTLY, RIGHT].index(one.state) for one in found]
    assert order == sorted(order)
    assert "vanilla keeps 100.0 % of the visual tokens and scores" in page(tmp_path / "a")


def test_a_video_is_looked_at_with_its_seconds(tmp_path, capsys):
    clip = write_video(tmp_path / "clip.mp4", 40)
    words = ["run", "strategy=fastv", f"video={clip}", "question=What is it?", *QUICK]
    assert main([*words, f"out={tmp_path}/run"]) == 0
    assert "Look at it in" in capsys.readouterr().out
    html = page(tmp_path / "run")
    assert "1 · 0.0 s" in html and "8 · 3.9 s" in html
    assert "--frames:url(data:image/jpeg" in html and "What is it?" in html


def test_of_pictures_that_become_one_frame_the_first_says_when():
    """As Qwen's: four pictures of a video are two frames of the language model."""
    record = {"frame_times": [0.0, 1.0, 2.0, 3.0], "evidence": [1, 2, 3]}
    assert contact.seconds_of(record, 2, 1) == [0.0, 2.0]
    assert contact.seconds_of(record, 4, 1) == record["frame_times"]
    assert contact.seconds_of(record, 4, 2) is None, "of two videos the times of one are known"
    assert contact.evidence_of(record, 2) == (0, 1)
    assert contact.evidence_of({"frame_times": None, "evidence": [9]}, 4) == (), "nobody can tell"


def test_without_the_videos_the_page_has_cells_and_says_why(tmp_path, capsys):
    task = annotate(tmp_path, {"a": write_video(tmp_path / "a.mp4")})
    words = ["run", "strategy=visionzip", task, "workers=0", *QUICK]
    assert main([*words, f"out={tmp_path}/run"]) == 0
    assert "--frames:url" in page(tmp_path / "run")
    (tmp_path / "a.mp4").unlink()
    assert main(["view", f"{tmp_path}/run"]) == 0
    said, html = capsys.readouterr().out, page(tmp_path / "run")
    assert "are without pictures: " in said and "a.mp4" in said
    assert "--frames:url" not in html and "--mask:url(data:image/png" in html
    assert "cells alone are drawn" in html


def test_time_for_pictures_is_limited_and_a_task_that_fails_is_told(
    finished, monkeypatch, tmp_path
):
    copy = changed(finished, tmp_path)
    run = read_run(copy)
    found, reason = frames.Frames(run, seconds=-1.0).of(0, [8])
    assert found is None and reason == frames.OVER
    whole, reason = frames.Frames(run).of(0, [8])
    assert reason is None and whole is not None and len(whole) == 8

    class Broken(TinyVQA):
        def __getitem__(self, index):
            raise KeyError(index)

    broken = frames.Frames(run, task=Broken())
    assert broken.of(4, [8]) == (None, "KeyError: 4")
    (copy / "config.yaml").write_text("run: 3\n")
    found, reason = frames.Frames(run).of(0, [8])
    assert found is None and reason is not None and "config.yaml" in reason


@pytest.fixture
def told(finished) -> Finished:
    return Finished(finished, read_run(finished).summary, [])


def test_a_page_that_fails_loses_no_run(told, monkeypatch, capsys):
    def broken(*given, **more):
        raise RuntimeError("no\npage")

    monkeypatch.setattr(write, "write", broken)
    look(told)
    said = capsys.readouterr()
    line = f"(RuntimeError: no page): `tokenprune view {told.folder}` tries it again\n"
    assert said.err.endswith(line) and said.err.count("\n") == 1
    assert said.out == ""


def test_ctrl_c_in_the_page_says_that_the_results_are_there(told, monkeypatch):
    def stopped(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write", stopped)
    with pytest.raises(KeyboardInterrupt, match=f"the results are in {told.folder}, and"):
        look(told)


def test_a_page_has_no_more_sheets_than_it_has_room_for(finished, monkeypatch, tmp_path):
    copy = changed(finished, tmp_path)
    monkeypatch.setattr(write, "_BYTES", 150_000)
    written = write.write(copy)
    assert 0 < written.sheets < written.samples == 9
    assert written.file.stat().st_size < 200_000
    assert f"{written.sheets} of 9 samples have a contact sheet" in page(copy)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no run to look at: write its folder first"),
        (["nowhere"], "there is no folder nowhere"),
        (["{run}", "out=page.pdf"], "write a name that ends in .html"),
        (["{run}", "sample=3"], "sample"),
    ],
)
def test_every_mistake_is_one_line(words, told, finished, capsys):
    assert main(["view", *(word.format(run=finished) for word in words)]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def test_a_sweep_is_told_to_name_a_cell(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "sweep" / "cells" / "one")
    assert main(["view", str(tmp_path / "sweep")]) == 2
    assert f"`tokenprune view {tmp_path}/sweep/cells/one`" in capsys.readouterr().err
    assert main(["view", f"{tmp_path}/sweep/cells/one", f"out={tmp_path}/deep/a.html"]) == 0
    assert (tmp_path / "deep" / "a.html").is_file()


def test_what_embedded_models_are_worth_stands_on_every_page(finished, tmp_path):
    """Also of a cell, whose summary leaves it to the study."""
    copy = changed(finished, tmp_path)
    file = copy / "summary.json"
    replace(file, json.dumps(json.loads(file.read_text()) | {"note": None}))
    write.write(copy)
    assert "they are not the papers&#39; results" in page(copy)


def test_parts_of_the_time_and_curves_are_the_records(finished):
    run = read_run(finished)
    for time_, system in zip(figures.times(run.summary), run.summary.systems.values(), strict=True):
        assert time_.ms == system.measured["answer_ms"]
        known = {part.name: part.ms for part in time_.parts}
        assert known["prefill"] == system.measured["prefill_ms"]
        assert max(part.share for part in time_.parts) <= 100
    by_frame, by_layer = figures.plots(run)
    kept = [record["strategy"]["tokens"]["kept_per_frame"] for record in run.records]
    mean = sum(map(sum, kept)) / (9 * 8 * 36) * 100
    words = {curve.role: curve.words for curve in by_frame.curves}
    assert words["vanilla"] == "100.0 % everywhere"
    assert words["strategy"].endswith(f"mean {mean:.1f} %")
    assert by_layer.ends == ("layer 0", "5")


def test_the_page_is_quick(finished, tmp_path):
    begun = time.process_time()
    write.write(finished, tmp_path / "a.html")
    assert time.process_time() - begun < 2
