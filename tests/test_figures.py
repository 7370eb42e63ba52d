"""Figures about a video: what the embedded model attends to and keeps, and what cannot be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clips import write_video

from tokenprune.errors import ConfigError, TokenpruneError
from tokenprune.pictures import figures, subject
from tokenprune.pictures.config import configured
from tokenprune.tasks.tinyvqa import TinyVQA

pytest.importorskip("matplotlib")
FAST = {"device": "cpu", "frames": 8, "max_new_tokens": 3}
SHORT = ("once", "repeat")
PAIR = ("a.png", "b.png")


def draw(kind: str, given: Any, file: Path, options: Any = None) -> figures.Drawn:
    return figures.draw(kind, given, file, options, dpi=40)


def numbers(drawn: figures.Drawn) -> dict[str, Any]:
    picture, file = drawn.files
    assert picture.stat().st_size > 2_000, "a picture"
    told = json.loads(file.read_text())
    assert (told["alt"], told["caption"]) == (drawn.alt, drawn.caption)
    return told["data"]


def test_attention_is_that_of_dytok_over_all_layers(tmp_path):
    """The first needle sample, whose evidence is known; two ways to the same weights."""
    attended = numbers(draw("attention", FAST, tmp_path / "a.png", {"top": 3}))
    kept = {"strategy": "uniform+dytok", "dytok.layers": [0, 5]}
    guided = numbers(draw("kept", FAST, tmp_path / "b.png", kept))["uniform+dytok"]
    assert attended["weights"] == pytest.approx(guided["weights"], rel=1e-3)
    assert attended["evidence"] == [*TinyVQA(frames=8)[8].evidence]


def test_captions_name_sample_model_and_what_the_figures_are_worth(tmp_path):
    drawn = draw("attention", FAST, tmp_path / "a.png")
    assert "tiny, sample tinyvqa-0-8-00008" in drawn.caption and "6 layers" in drawn.caption
    assert "they are not the papers' results" in drawn.caption
    assert "Attention of the last prompt token to 8 frames." in drawn.alt


def test_an_assistant_is_the_one_that_is_looked_at(tmp_path):
    own = numbers(draw("attention", FAST, tmp_path / "a.png"))
    drawn = draw("attention", {**FAST, "assistant": "nano"}, tmp_path / "b.png")
    assert numbers(drawn)["weights"] != own["weights"] and "all tokens kept: nano" in drawn.caption


def test_heat_maps_of_a_sample_and_of_frames_without_content(tmp_path):
    one = numbers(draw("layers", FAST, tmp_path / "a.png"))
    assert [len(layer) for layer in one["sample"]] == [8] * 6
    assert all(0 <= share <= 1 for layer in one["sample"] for share in layer)
    drawn = draw("layers", {**FAST, "contents": ["black", "noise"]}, tmp_path / "b.png")
    assert set(numbers(drawn)) == {"black", "noise"}
    assert "Evidence" not in drawn.alt and "black: " in drawn.alt


def test_both_systems_keep_the_same_budget_and_one_moves_it(tmp_path):
    options = {
        "strategy": "visionzip+dytok",
        "against": "visionzip",
        "keep": 0.1,
        "embedded": {"keep": 0.25},
    }
    drawn = draw("kept", FAST, tmp_path / "a.svg", options)
    found = numbers(drawn)
    assert found["visionzip"]["budgets"] == [9] * 8, "a quarter, as the embedded model is asked for"
    guided = found["visionzip+dytok"]["budgets"]
    assert sum(guided) == 72 and guided != [9] * 8
    assert "dots: cells that stand for several merged tokens" in drawn.caption


def test_where_generated_tokens_look_and_when_the_selection_changes(tmp_path):
    given = {**FAST, "max_new_tokens": 8, "category": "describe"}
    found = numbers(draw("decode", given, tmp_path / "a.png"))
    full, pruned = found["full model"], found["dycoke"]
    assert len(full["mass"]) == len(full["words"]) == len(full["changed"]) == 7
    assert not any(full["changed"]) and any(pruned["changed"])
    assert full["words"] != ["", ""] and all(0 < sum(token) < 1 for token in full["mass"])


def test_any_video_can_be_asked_about(tmp_path):
    video = write_video(tmp_path / "v.mp4", 20)
    given = {"video": str(video), "question": "What moves?", "max_new_tokens": 2, "frames": 8}
    options = {"category": "describe", "top": 4}
    drawn = draw("attention", given, tmp_path / "a.pdf", options)
    assert len(numbers(drawn)["weights"]) == 8 and f"video {video}" in drawn.caption


def test_a_short_video_is_shown_once_or_with_repeated_frames(tmp_path):
    given = {"video": str(write_video(tmp_path / "v.mp4", 4)), "question": "What?", "frames": 8}
    tasks = [subject.task_of(configured({}, {**given, "short": short})) for short in SHORT]
    assert [len(task[0].frames) for task in tasks] == [4, 8]


def test_a_sample_is_found_by_id_number_or_category():
    task = TinyVQA(samples=16, frames=8)
    assert subject.place_of(task, "tinyvqa-0-8-00003") == subject.place_of(task, "3") == 3
    assert subject.place_of(task, None) == 8, "the first needle"
    assert subject.place_of(task, None, "describe") == 14
    with pytest.raises(ConfigError, match=r"sample=tinyvqa-0-8-00007, or a number from 0 to 15"):
        subject.place_of(task, "tinyvqa-0-80007")


def test_the_same_figure_is_the_same_file(tmp_path):
    files = [draw("attention", {**FAST, "sample": None}, tmp_path / name) for name in PAIR]
    assert files[0].files[0].read_bytes() == files[1].files[0].read_bytes()


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("atention", {}, "did you mean attention"),
        ("layers", {"contents": ["grey"]}, "write black, white, noise"),
        ("attention", {"question": "What?"}, "add video=FILE"),
        ("attention", {"video": "a.mp4"}, "add question="),
        ("attention", {"category": "needles"}, "write category= one of existence"),
        ("attention", {"frame": 8}, "did you mean frames"),
        ("attention", {"frames": 0}, "frames"),
        ("attention", {"frames": 130}, "frames"),
        ("attention", {"model": "nowhere"}, "there is no model"),
        ("kept", {"strategy": "fastv", "keep": 0.1}, "fastv retains 33.3% to 100.0%"),
        ("kept", {"strategy": "visionzp"}, "did you mean 'visionzip'"),
        ("kept", {"keep": 1.5}, "keep="),
        ("kept", {"assistant": "nano", "strategy": "dytok"}, "another strategy's budget"),
        ("kept", {"assistant": "nano", "strategy": "fastv"}, r"write strategy=fastv\+dytok"),
        ("decode", {"assistant": "nano"}, r"write strategy=dycoke\+dytok"),
        ("decode", {**FAST, "max_new_tokens": 1}, "is one token.*ask for a description"),
    ],
)
def test_what_cannot_be_drawn_says_what_to_write_and_leaves_nothing(tmp_path, kind, given, says):
    with pytest.raises(TokenpruneError, match=says):
        draw(kind, given, tmp_path / "a.png")
    assert not [*tmp_path.iterdir()]


def test_mistakes_are_found_before_weights_are_read(tmp_path, monkeypatch):
    def load(*_: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(subject, "load", load)
    with pytest.raises(ConfigError, match="fastv retains"):
        draw("kept", {"strategy": "fastv", "keep": 0.1}, tmp_path / "a.png")


def test_what_the_user_says_comes_before_a_figures_own_options():
    own = {"keep": 0.1, "frames": 8, "embedded": {"keep": 0.25, "fastv.layer": 1}}
    small = configured(own, {"frames": 16, "question": None})
    assert (small.keep, small.frames, small.options) == (0.25, 16, {"fastv.layer": 1})
    other = configured(own, {"model": "some/model", "keep": 0.5})
    assert (other.keep, other.frames, other.options) == (0.5, 8, {})


def test_paths_may_be_new_folders(tmp_path: Path):
    drawn = draw("attention", FAST, tmp_path / "new" / "a.png")
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"a.png", "a.json"}
    assert drawn.files[0].parent == tmp_path / "new"
