"""Figures of papers from their files: each builds its configuration, and one is drawn whole."""

from __future__ import annotations

import json

import pytest

from tokenprune.cli.main import main
from tokenprune.errors import ConfigError
from tokenprune.pictures.config import configured
from tokenprune.pictures.figures import NAMES
from tokenprune.registry import resolve
from tokenprune.reproduce.config import parse
from tokenprune.reproduce.figure import draw, given
from tokenprune.reproduce.files import read_table, tables

FIGURES = [id_ for id_, table in tables() if table.figure and table.figure.draws in NAMES]


def test_figures_about_videos_are_those_of_the_papers():
    numbers = (1, 5, 6, 9, *range(10, 18))
    assert set(FIGURES) == {"dycoke/figure2", *(f"dytok/figure{number}" for number in numbers)}


@pytest.mark.parametrize("id_", FIGURES)
def test_its_options_build_on_the_embedded_model_and_on_the_papers(id_):
    table = read_table(id_)
    assert table.figure is not None
    for model, depth in ((None, 6), ("some/model", 28)):
        made = configured(table.figure.options, {"model": model})
        for spec in filter(None, (made.strategy, made.against)):
            options = {k: v for k, v in made.options.items() if k.split(".")[0] in spec.split("+")}
            assert resolve(spec, options, seed=0).check(depth)


def alike() -> list[str]:
    """One of those whose files ask for the same drawing."""
    found: dict[str, str] = {}
    for id_ in FIGURES:
        found.setdefault(repr(read_table(id_).figure), id_)
    return [*found.values()]


@pytest.mark.parametrize("id_", alike())
def test_each_is_drawn_on_the_embedded_model(tmp_path, id_):
    pytest.importorskip("matplotlib")
    drawn = draw(id_, read_table(id_), parse([id_, "device=cpu"]), tmp_path)
    assert drawn is not None
    assert drawn.files[0] == tmp_path / "images" / f"{id_.replace('/', '-')}.png"
    told = json.loads(drawn.files[1].read_text())
    assert told["data"] and told["alt"] == drawn.alt
    assert "they are not the papers' results" in told["caption"]
    if told["kind"] == "kept":
        budgets = [sum(part["budgets"]) for part in told["data"].values()]
        assert len(budgets) == 2 and budgets[0] == budgets[1] > 0


def test_a_table_is_no_figure(tmp_path):
    config = parse(["dycoke/table1"])
    assert draw("dycoke/table1", read_table("dycoke/table1"), config, tmp_path) is None


def test_what_the_user_says_goes_into_the_figure():
    words = ["dytok/figure1", "video=a.mp4", "question=What?", "frames=4", "assistant=b"]
    table, config = read_table("dytok/figure1"), parse(words)
    said = given("dytok/figure1", table, config)
    assert (said["video"], said["question"], said["frames"]) == ("a.mp4", "What?", 4)
    assert (said["assistant"], said["model"]) == ("b", None)


def test_one_model_of_the_figure_is_named():
    table = read_table("dytok/figure5")
    both = parse(["dytok/figure5", "model.LLaVA-OneVision=a", "model.LLaVA-Video=b"])
    with pytest.raises(ConfigError, match="is drawn of one model, and 2 are named"):
        given("dytok/figure5", table, both)
    with pytest.raises(ConfigError, match=r"write model\.LLaVA-OneVision=, model\.LLaVA-Video="):
        given("dytok/figure5", table, parse(["dytok/figure5", "model.7B=a"]))
    one = given("dytok/figure5", table, parse(["dytok/figure5", "model.LLaVA-Video=b"]))
    assert one["model"] == "b"


def test_the_command_draws_the_figure_that_is_named(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["reproduce", "dytok/figure1", "device=cpu", "frames=8", f"out={tmp_path}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/images/dytok-figure1.png" in said
    assert "Attention of the last prompt token to 8 frames." in said


@pytest.mark.parametrize("what", ["dycoke/table1", "dytok"])
def test_a_figures_keys_beside_a_table_are_refused(tmp_path, capsys, what):
    words = ["reproduce", what, "frames=8", "plan=true", f"out={tmp_path}"]
    assert main(words) == 2
    assert f"frames= is about a figure, and {what} is none" in capsys.readouterr().err
