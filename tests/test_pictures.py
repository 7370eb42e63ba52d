"""Drawings of plain numbers: what stands in them, colour is not all there is, and their words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenprune.errors import ConfigError
from tokenprune.pictures import attention, charts, decoding, drawing, kept
from tokenprune.pictures.drawing import DASHES, MARKS, STAR
from tokenprune.pictures.footage import Footage, footage_of, seen
from tokenprune.pixels import Cropped
from tokenprune.tasks import Sample

pytest.importorskip("matplotlib")


def footage(frames: int = 4, evidence: tuple[int, ...] = (2,), tall: int = 12) -> Footage:
    pictures = [
        torch.full((tall, 12, 3), 10 * number, dtype=torch.uint8) for number in range(frames)
    ]
    return Footage(tuple(pictures), evidence, "Which $ is it?", "red")


def texts(figure) -> list[str]:
    """All that is written in a figure."""
    from matplotlib.text import Text

    return [one.get_text() for one in figure.findobj(Text) if one.get_text()]


# kept tokens


def test_dropped_cells_are_faint_and_kept_ones_as_they_were():
    picture = np.random.default_rng(0).integers(0, 200, (12, 12, 3), np.uint8)
    cells = np.zeros((3, 3), dtype=bool)
    cells[0, 1] = True
    shown = kept.faded(picture, cells)
    inside = np.zeros((12, 12), dtype=bool)
    inside[0:4, 4:8] = True
    assert (shown[inside] == picture[inside]).all()
    assert (shown[~inside] > 190).all(), "pale whatever was there"


def test_cells_that_do_not_divide_the_picture_cover_all_of_it():
    cells = np.array([[True, False], [False, True]])
    shown = kept.faded(np.zeros((5, 7, 3), np.uint8), cells)
    assert sorted(np.unique(shown).tolist()) == [0, 199]
    assert (shown[:3, :4] == 0).all() and (shown[3:, 4:] == 0).all()


@pytest.mark.parametrize(
    ("cells", "edges"),
    [([[True]], 4), ([[True, True]], 6), ([[True, False], [False, True]], 8), ([[False]], 0)],
)
def test_the_outline_has_the_edges_between_kept_and_dropped(cells, edges):
    assert len(kept.outline(np.array(cells))) == edges


def systems() -> list[kept.Kept]:
    slots = [[[0], [1, 2], [3], []], [[], [], [0, 1, 2], [3]]]
    grids = [(2, 2)] * 4
    alone = kept.Kept("uniform", slots[0], grids, "blue", average=0.4)
    guided = kept.Kept("guided", slots[1], grids, "red", [0.1, 0.1, 0.7, 0.1], merged=True)
    return [alone, guided]


def test_budgets_answers_and_evidence_are_written_and_told():
    made = kept.over_footage(systems(), footage(), "cost: 3 $")
    written = texts(made.figure)
    assert f"{STAR} 1" in written and f"{STAR} 3" in written, "evidence has a star, not only red"
    assert written.count("0") >= 3 and any('"blue"' in text for text in written)
    assert any("25.0 % in the last layer, 40.0 % mean over layers" in text for text in written)
    assert "by frame 1, 2, 1, 0." in made.alt and "by frame 0, 0, 3, 1." in made.alt
    assert "Evidence: frame 3." in made.alt and "several merged tokens" in made.alt


def test_weights_have_an_axis_only_where_some_are_known():
    alone, guided = systems()
    assert len(kept.over_footage([alone], footage()).figure.axes) == 1
    made = kept.over_footage([alone, guided], footage())
    (line, *_) = made.figure.axes[-1].lines
    assert line.get_ydata().tolist() == pytest.approx([10, 10, 70, 10])


def test_frames_go_into_rows_of_eight(tmp_path):
    slots, grids = [[0]] * 11, [(1, 1)] * 11
    made = kept.over_footage([kept.Kept("all", slots, grids)], footage(11, (), tall=8))
    made.save(tmp_path / "rows.png", 40)
    extents = [image.get_extent() for image in made.figure.axes[0].images]
    assert len({low for _, _, low, _ in extents}) == 2 and len(extents) == 11


def test_dots_mark_cells_that_stand_for_several():
    one = kept.Kept("zip", [[0, 3]], [(2, 2)], stands_for=[[1, 3]])
    made = kept.over_footage([one], footage(1, ()))
    (dot,) = made.figure.axes[0].lines
    assert dot.get_marker() == "o"
    assert dot.get_xdata()[0] > 0.5 and dot.get_ydata()[0] < 0.5, "in the last cell"


# attention


def test_the_highest_frames_stand_in_time_order_with_their_ranks_told():
    weights = torch.tensor([0.1, 0.4, 0.2, 0.3])
    made = attention.over_frames(weights, footage(), "a title", top=3)
    assert "in time order: frame 2: 40.0 %, frame 3: 20.0 %, frame 4: 30.0 %." in made.alt
    assert "frame 3, has rank 3 of 4" in made.alt
    bars = [*made.figure.axes[1].patches]
    assert [bar.get_height() for bar in bars] == pytest.approx([40, 20, 30])
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True, False]
    assert f"{STAR} 3" in texts(made.figure)


def test_heat_maps_have_both_margins_and_one_scale():
    one = attention.Seen("a", torch.rand(3, 8, generator=torch.Generator().manual_seed(0)), (1,))
    two = attention.Seen("b", one.mass * 2)
    made = attention.by_layer([one, two], "both")
    heats = [axis.images[0] for axis in made.figure.axes if axis.images]
    most = 200 * float(one.mass.max())
    assert [heat.get_clim() for heat in heats] == [(0, pytest.approx(most))] * 2
    above, beside = made.figure.axes[1:3]
    assert above.lines[0].get_ydata().tolist() == pytest.approx((100 * one.mass.mean(0)).tolist())
    assert beside.lines[0].get_xdata().tolist() == pytest.approx((100 * one.mass.mean(1)).tolist())
    assert STAR in texts(made.figure) and "Evidence: frame 2." in made.alt


def test_changes_of_the_selection_are_marked_and_told():
    mass = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    words, changed = ["a", "\n", "$", " b"], [False, False, True, False]
    made = decoding.over_tokens([decoding.Told("dycoke", mass, words, changed)], "t")
    axis = made.figure.axes[0]
    marks = [line for line in axis.lines if line.get_marker() == "v"]
    assert [mark.get_xdata()[0] for mark in marks] == [1.5]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["a", "⏎", r"\$", "·b"]
    assert "The selection changes before token 3." in made.alt
    assert axis.images[0].get_array().shape == (3, 4), "frames over tokens"


# charts


def test_curves_differ_in_marks_and_dashes_and_have_their_baselines():
    lines = [
        charts.Curve(f"{n} frames", [charts.Point(x, 50 + n + x, 48 + n, 60) for x in (0.3, 0.1)],
                     charts.Point(0, 55 + n))
        for n in (8, 16)
    ]  # fmt: skip
    made = charts.curves(lines, "K", "score, %")
    curves = [line for line in made.figure.axes[0].lines if line.get_marker() in MARKS[:2]]
    drawn = [line for line in curves if len(line.get_xdata()) == 2]
    assert [list(line.get_xdata()) for line in drawn] == [[0.1, 0.3]] * 2, "in the order of x"
    assert [line.get_marker() for line in drawn] == [*MARKS[:2]]
    assert len({str(line.get_linestyle()) for line in drawn}) == 2 == len(set(DASHES[:2]))
    assert "8 frames: 58.1 at 0.1 and 58.3 at 0.3 (full model 63.0)" in made.alt


def test_bars_say_their_values_and_what_is_missing():
    made = charts.bars(["Full", "DyCoke"], {"acc": [58.8, 59.6], "GB": [34, None]})
    written = texts(made.figure)
    assert " 58.8" in written and " -" in written
    assert "GB: Full 34 and DyCoke not given" in made.alt


def test_grids_say_their_values():
    made = charts.grid(["1", "2"], ["0.5", "0.9"], [[1.0, 2.0], [None, 4.25]], "K", "R", "score")
    assert {"1.0", "2.0", "4.2", "-"} <= set(texts(made.figure))
    assert made.alt == "score: K by R (0.5, 0.9). 1: 1.0, 2.0; 2: none, 4.2."


# files


@pytest.mark.parametrize("suffix", drawing.FORMATS)
def test_the_same_numbers_give_the_same_bytes(tmp_path, suffix):
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        charts.bars(["a"], {"m": [1.0]}).save(file, 60)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "dpi", "says"),
    [("a.jpg", 150, "ends in .png"), ("a", 150, "ends in .png"), ("a.png", 5, "write dpi=150")],
)
def test_other_files_are_refused_before_they_are_made(tmp_path, name, dpi, says):
    with pytest.raises(ConfigError, match=says):
        charts.bars(["a"], {"m": [1.0]}).save(tmp_path / name, dpi)
    assert not [*tmp_path.iterdir()]


def test_without_matplotlib_it_is_named(monkeypatch):
    monkeypatch.setattr(drawing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="figures need matplotlib: pip install"):
        drawing.check_file("a.png")


# footage


def sample(frames: int, size: tuple[int, int] = (8, 16)) -> Sample:
    video = torch.arange(frames, dtype=torch.uint8)[:, None, None, None].expand(-1, *size, 3)
    return Sample("a", "q", "yes", "c", video, evidence=(5,))


def test_a_pair_of_pictures_is_shown_by_its_first():
    made = footage_of(sample(8), [4])
    assert [int(picture[0, 0, 0]) for picture in made.pictures] == [0, 2, 4, 6]
    assert made.evidence == (2,), "frame 5 of the video is in the third pair"


def test_videos_that_are_one_to_the_model_follow_one_another():
    one = sample(4)
    both = replace(one, media=(one.frames[:, :4], one.frames + 10, one.frames[0]))
    together, apart = footage_of(both, [8]), footage_of(both, [4, 4])
    levels = [0, 1, 2, 3, 10, 11, 12, 13]
    for made in (together, apart):
        assert [int(picture[0, 0, 0]) for picture in made.pictures] == levels
    assert len(footage_of(both, [4, 4, 1])) == 9, "an image that was compressed, too"


def test_only_the_centre_is_shown_where_only_that_is_seen():
    settings = {"size": {"shortest_edge": 8}, "crop_size": {"height": 6, "width": 6}}
    picture = torch.zeros(16, 32, 3, dtype=torch.uint8)
    assert seen(picture, Cropped.of(settings, 8)).shape == (12, 12, 3)
    assert seen(picture, None).shape == picture.shape


def test_numbers_are_json(tmp_path: Path):
    assert json.loads(json.dumps(drawing.numbered([0, 2]))) == "frames 1 and 3"
