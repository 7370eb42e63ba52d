"""The gallery names every strategy, its figures are those of their sources, and the picture at the
head of the README shows what its words say.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from pathlib import Path

import pytest

from tokenprune import registry

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gallery.md"
INSIDE = {"tome", "reuse"}  # of the vision tower: they drop no token


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs/gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(command):
    return json.loads(command.FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def section(text: str, name: str) -> str:
    """What stands under a strategy's heading."""
    return re.split(r"^##", text.split(f"\n### {name}\n")[1], flags=re.MULTILINE)[0]


def test_the_page_is_that_of_its_files(command, found, text):
    assert text == command.page(found), "stale: python docs/gallery.py page"


def test_every_strategy_has_a_section_with_both_pictures(text):
    headings = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert sorted(headings) == sorted(registry.names())
    for name in registry.names():
        pictures = re.findall(r"!\[(.+)\]\((.+)\)", section(text, name))
        files = [f"images/gallery/{name}{end}.png" for end in ("", "-curve")]
        assert [file for _, file in pictures] == files
        assert all(len(words) > 40 for words, _ in pictures), "in words for those who see none"


def test_pictures_are_there_and_small(text):
    files = {ROOT / "docs" / file for file in re.findall(r"\]\((images/[^)]+)\)", text)}
    files |= {ROOT / "docs/images/first.png", ROOT / "docs/images/curve.png"}
    for file in files:
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < 200_000, file
    assert sum(file.stat().st_size for file in files) < 2_500_000


def test_scores_are_those_of_the_tables_of_results(text):
    with (ROOT / "docs/results/methods.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["budget"] == "0.25"]
    methods = {row["method"]: row for row in rows}
    assert set(methods) == set(registry.names()) - {"dytok"} - INSIDE
    for name, row in methods.items():
        score = f"{100 * float(row['score']):.1f} [{100 * float(row['score_low']):.1f}, "
        assert score in section(text, name), name
        line = next(line for line in text.splitlines() if line.startswith(f"| [{name}]"))
        flops = f"{100 * float(row['flops_ratio']):.1f}".removesuffix(".0")
        assert score.strip() in line and f"| {flops} % |" in line, name
    with (ROOT / "docs/results/tinyvqa.csv").open(encoding="utf-8", newline="") as file:
        (guided,) = [
            row
            for row in csv.DictReader(file)
            if (row["method"], row["guide"], row["budget"]) == ("visionzip", "self", "0.25")
        ]
    assert f"{100 * float(guided['score']):.1f} [" in section(text, "dytok")


def test_a_stage_inside_the_tower_shows_its_patches_and_the_scores_of_its_study(found, text):
    with (ROOT / "docs/results/tower.csv").open(encoding="utf-8", newline="") as file:
        rows = {
            (row["method"], row["setting"], row["control"]): row for row in csv.DictReader(file)
        }
    for name, setting in (("tome", "28"), ("reuse", "0.2")):
        (part,) = (part for part in found["gallery"] if part["spec"] == name)
        told = section(text, name)
        left = sum(map(len, part["slots"]))
        assert f"={setting}`: {left} of {16 * 12 * 12} " in told and 0 < part["work"] < 1
        assert f"{100 * part['work']:.1f} % of its multiply-adds; the language model sees" in told
        for control in "01":
            assert f"{100 * float(rows[name, setting, control]['score']):.1f} [" in told
    (merged,) = (part for part in found["gallery"] if part["spec"] == "tome")
    assert [len(cells) for cells in merged["slots"]] == [144 - 4 * 28] * 16


@pytest.mark.parametrize("name", sorted(INSIDE))
def test_patches_that_are_shown_are_those_that_the_model_works_on(command, found, name):
    one = command.asked.subject(command.asked.KEEP)
    (part,) = (part for part in found["gallery"] if part["spec"] == name)
    again = command.asked.inside.seen(one, name)
    assert again["work"] == part["work"]
    assert [len(cells) for cells in again["slots"]] == [len(cells) for cells in part["slots"]]


def test_one_strategy_can_be_measured_anew(command):
    with pytest.raises(SystemExit, match="no strategy is called 'nobody'"):
        command.main(["nobody"])


def test_what_embedded_models_are_worth_is_said_on_the_page_and_in_the_pictures(command, text):
    assert "they are not the papers' results" in text
    assert "not the papers’ results" in command.asked.NOTE


def test_measured_figures_are_those_of_the_model(command, found):
    asked = command.asked
    tight = asked.subject(asked.TIGHT)
    written = {part["spec"]: command.shown(part) for part in found["first"]}
    assert [*written] == ["none", *asked.FIRST]
    for spec, made in asked.answered(tight, ("random", "visionzip+dytok")).items():
        again = asked.shown(spec, made)
        assert again.answer == written[spec].answer
        assert [len(cells) for cells in again.slots] == [len(c) for c in written[spec].slots]
        assert again.layers == written[spec].layers == [80] * 6
    assert asked.options() == {
        name: value for name, value in asked.options().items() if name.endswith(".layer")
    }


def test_the_first_picture_has_one_right_answer_and_says_so(command, found):
    command.check_first(found)
    wrong = {**found, "right": "blue"}
    with pytest.raises(SystemExit, match="does not tell random, visionzip"):
        command.check_first(wrong)
    assert "visionzip+dytok: 80 of 576 tokens, by frame 0, 7, 13, 1," in found["alt"]["first"]
    assert "random: 80 of 576 tokens, by frame 5, 5, 5," in found["alt"]["first"]


@pytest.mark.parametrize("name", ["fastv", "dytok", "random", "reuse"])
def test_the_words_of_a_plot_are_current(command, found, name):
    assert command.curve_of(name).alt == found["curves"][name]


def test_a_curve_stands_where_tokens_were_measured(command):
    curves = importlib.import_module(command.curve_of.__module__)
    points = curves.curve("prunevid", curves.cells_of("prunevid")).points
    assert [point.x for point in points] == [20.1, 15.0, 12.7], "not at the budgets asked for"
