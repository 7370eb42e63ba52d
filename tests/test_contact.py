"""Contact sheets and curves that are named at their ends, from plain numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenprune.pictures.beside import FULL, beside
from tokenprune.pictures.charts import Curve, Point
from tokenprune.pictures.contact import contact, darkened
from tokenprune.pictures.drawing import STAR
from tokenprune.pictures.footage import Footage
from tokenprune.pictures.kept import Kept

pytest.importorskip("matplotlib")


def footage(frames: int, answer: str = "") -> Footage:
    pictures = [torch.full((8, 12, 3), 10 * at, dtype=torch.uint8) for at in range(frames)]
    return Footage(tuple(pictures), (1,), "Which $ is it?", answer)


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


def systems(frames: int = 3) -> list[Kept]:
    grids = [(2, 2)] * frames
    some = Kept("some", [[0], [1, 2], []] + [[]] * (frames - 3), grids, "blue", average=0.6)
    return [some, Kept("zip", [[]] + [[0, 1, 2, 3]] * (frames - 1), grids, "red $")]


def test_dropped_cells_are_dark_and_kept_ones_as_they_were():
    picture = np.random.default_rng(0).integers(100, 255, (12, 12, 3), np.uint8)
    cells = np.zeros((3, 3), dtype=bool)
    cells[0, 1] = True
    shown = darkened(picture, cells)
    inside = np.zeros((12, 12), dtype=bool)
    inside[0:4, 4:8] = True
    assert (shown[inside] == picture[inside]).all()
    assert (shown[~inside] < 80).all(), "dark whatever was there"


def test_every_frame_says_how_many_of_its_cells_are_left():
    made = contact(systems(), footage(3, "red $"), "which $?", "a note")
    written = texts(made.figure)
    assert written.count("0/4") == 2 and f"{STAR}2/4" in written and f"{STAR}4/4" in written
    assert r"which \$?" in written and "a note" in written, "words, no formulas"
    assert "some: 3 of 12 tokens, by frame 1, 2, 0." in made.alt
    assert "What is asked about: frame 2." in made.alt


def test_answers_are_marked_where_the_right_one_is_known():
    known = texts(contact(systems(), footage(3, "red $")).figure)
    assert any(text.endswith("“blue” ✗") for text in known)
    assert any(text.endswith(r"“red \$” ✓") for text in known)
    unknown = texts(contact(systems(), footage(3)).figure)
    assert not any("✓" in text or "✗" in text for text in unknown)


def test_what_layers_saw_on_average_stands_where_it_differs():
    first, second = (
        next(text for text in texts(contact([one], footage(3)).figure) if "answers" in text)
        for one in systems()
    )
    assert first.startswith("60.0 % of the tokens, mean over layers, answers")
    assert second.startswith("8 of 12 tokens (66.7 %), answers")


def test_more_than_sixteen_frames_go_into_rows(tmp_path):
    made = contact(systems(20)[1:], footage(20))
    extents = [image.get_extent() for image in made.figure.axes[0].images]
    assert len(extents) == 20 and len({low for _, _, low, _ in extents}) == 2
    assert made.save(tmp_path / "sheet.png", 50).stat().st_size > 0


def three() -> tuple[list[Curve], Curve, Point]:
    control = Curve("random", [Point(50, 90.0, 88.0, 92.0), Point(10, 70.0, 66.0, 74.0)])
    early = Curve("early", [Point(50, 80.0), Point(25, 60.0)])
    near = Curve("near", [Point(10, 70.1), Point(50, 91.0)])
    return [early, near], control, Point(100, 95.0, 94.0, 96.0)


def test_lines_are_named_where_they_end_and_no_name_covers_another():
    lines, control, full = three()
    axis = beside(lines, control, full, foot="a note").figure.axes[0]
    named = {text.get_text(): text for text in axis.texts}
    assert set(named) == {"early", "near", "random", FULL}
    assert named["early"].get_position()[0] == pytest.approx(25 * 0.97**-1 / 1.04, rel=0.1)
    heights = [named[label].get_position()[1] for label in (FULL, "near", "random")]
    low, top = axis.get_ylim()
    assert heights[0] > heights[1] > heights[2] >= low
    assert heights[1] - heights[2] > 0.03 * (top - low), "two ends lie at one height"


def test_what_is_kept_counts_down_with_a_number_where_the_control_is():
    lines, control, full = three()
    axis = beside(lines, control, full).figure.axes[0]
    left, right = axis.get_xlim()
    assert left > 50 > 10 > right and axis.get_xscale() == "log"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["50", "10"]


def test_marks_and_dashes_tell_lines_apart_without_colour():
    lines, control, full = three()
    axis = beside(lines, control, full).figure.axes[0]
    marked = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
    assert len({(line.get_marker(), line.get_linestyle()) for line in marked}) == 3


def test_the_words_of_a_plot_have_its_intervals():
    lines, control, full = three()
    alt = beside(lines, control, full).alt
    assert "full model 95.0 [94.0, 96.0]." in alt
    assert "random: 90.0 [88.0, 92.0] at 50 and 70.0 [66.0, 74.0] at 10." in alt
    assert "near: 91.0 at 50 and 70.1 at 10." in alt
