"""What an analogue's numbers say: of claims, in words, and as pictures; from numbers made up."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenprune.errors import ConfigError
from tokenprune.options import typed
from tokenprune.reproduce.files import read_table
from tokenprune.reproduce.grids import words
from tokenprune.reproduce.grids.arms import arms, at_budget, cell_of, full_model
from tokenprune.reproduce.grids.claims import claims_of
from tokenprune.reproduce.grids.grid import CONTROL, FULL, METHOD, Grid, Interval, Line, Told
from tokenprune.reproduce.grids.lines import Block
from tokenprune.reproduce.grids.pictures import pictures
from tokenprune.reproduce.parts import Analogue, Claim
from tokenprune.reproduce.schema import Table
from tokenprune.results.answer import Answer
from tokenprune.strategy import Extent
from tokenprune.study.results import gather

SKILLS = {"weak": 0.4, "strong": 0.9, "as strong": 0.9}


def block(skills: Mapping[str, float], frames: int = 16, only: str | None = None) -> Block:
    """Methods that are right so often, on 40 samples each of two categories; the full model always.

    `only`: the category in which methods differ from the full model.
    """
    extent = Extent(frames, 36, 6)
    methods = [
        {"strategy": "dycoke", "label": name, "options": {"dycoke.threshold": 0.1 + 0.1 * place}}
        for place, name in enumerate(skills)
    ]
    found = arms(typed("analogue", {"frames": frames, "methods": methods}, Analogue))
    cells = [at_budget(cell_of(arm, extent, 0), 0.5) for arm in found]
    luck, answers = np.random.default_rng(frames).random((40, 2)), {}
    for cell, skill in [(full_model(extent), 1.0), *zip(cells, skills.values(), strict=True)]:
        answers[cell.slug] = [
            Answer(
                row,
                f"{category}-{row}",
                category,
                "",
                "",
                score=float(luck[row, place] < (1.0 if only not in (None, category) else skill)),
                tokens=dict.fromkeys(("layer_average_ratio", "input_ratio", "decode_ratio"), 0.5),
                flops_ratio=0.5,
            )
            for row in range(40)
            for place, category in enumerate(("describe", "colour"))
        ]
    return Block(found, cells, gather([full_model(extent), *cells], answers, 2000, 0), answers)


def told(analogue: dict[str, Any], *blocks: Block, at_least: float = 0.0) -> list[Told]:
    claim = Claim("it is better", {"K": 1}, {"K": 2}, "avg", at_least, analogue=analogue)
    table = Table("dycoke", "title", "source", claims=[claim])
    return claims_of(table, blocks or [block(SKILLS)])


@pytest.mark.parametrize(
    ("better", "worse", "at_least", "word"),
    [
        ("strong", "weak", 0.0, "holds"),
        ("weak", "strong", 0.0, "does not hold"),
        ("strong", "as strong", 0.0, "cannot tell"),
        ("strong", "as strong", -0.5, "holds"),  # loses at most half a point: nothing, here
        ("strong", "weak", 90.0, "does not hold"),
        ("strong", "full model", 0.0, "does not hold"),
        ("full model", "weak", 0.0, "holds"),
    ],
)
def test_a_claim_is_decided_by_the_paired_interval(
    better: str, worse: str, at_least: float, word: str
) -> None:
    (one,) = told({"better": better, "worse": worse}, at_least=at_least)
    assert (one.word, one.better, one.worse, one.column) == (word, better, worse, "score")
    assert one.difference is not None and one.difference.low is not None


def test_a_claim_may_be_about_one_category() -> None:
    blocks = [block(SKILLS, only="describe")]
    (inside,) = told({"column": "describe", "better": "full model", "worse": "weak"}, *blocks)
    (outside,) = told({"column": "colour", "better": "full model", "worse": "weak"}, *blocks)
    assert (inside.word, outside.word) == ("holds", "cannot tell")
    assert outside.difference == Interval(0.0, 0.0, 0.0, 0)
    with pytest.raises(ConfigError, match="column: size is unknown, write one of score, describe"):
        told({"column": "size", "better": "strong", "worse": "weak"}, *blocks)


def test_methods_on_other_samples_are_compared_by_what_each_loses() -> None:
    """Each is paired with the full model on its own samples; the widths add as squares."""
    few, many = block({"at 8": 0.4}, 8), block({"at 16": 0.9}, 16)
    (one,) = told({"better": "at 16", "worse": "at 8"}, few, many)
    effects = [each.results.rows[1].to_vanilla for each in (few, many)]
    assert all(effects) and one.difference is not None
    first, second = (100 * effect.value for effect in effects if effect)
    assert one.difference.value == pytest.approx(second - first)
    intervals = [effect.interval for effect in effects if effect and effect.interval]
    halves = [50 * (high - low) for low, high in intervals]
    assert one.difference.low == pytest.approx(second - first - math.hypot(*halves))
    assert one.word == "holds"


def test_a_claim_with_nothing_to_compare_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match="better: nobody is none of full model; weak; strong"):
        told({"better": "nobody", "worse": "weak"})
    table = read_table("dycoke/table5")
    claims = [dataclasses.replace(table.claims[0], analogue={"column": "describe"})]
    with pytest.raises(ConfigError, match="nothing to compare on the analogue"):
        claims_of(dataclasses.replace(table, claims=claims), [block(SKILLS)])


def test_a_method_with_several_points_is_compared_point_by_point() -> None:
    one = block({"a, cap=1": 0.9, "a, cap=2": 0.9, "b, cap=1": 0.3, "b, cap=2": 0.3})
    points = [
        dataclasses.replace(arm, method=arm.label[0], at={"dytok.cap": int(arm.label[-1])})
        for arm in one.arms
    ]
    found = told({"better": "a", "worse": "b"}, one._replace(arms=points))
    pairs = [(each.better, each.worse) for each in found]
    assert pairs == [("a, cap=1", "b, cap=1"), ("a, cap=2", "b, cap=2")]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (("holds", "holds"), "holds"),
        (("holds", "cannot tell"), "cannot tell"),
        (("cannot tell", "does not hold", "holds"), "does not hold"),
    ],
)
def test_a_claim_of_several_comparisons_holds_if_all_do(said: tuple[str, ...], word: str) -> None:
    claims = [Told("it is better", "score", "a", "b", None, one) for one in said]
    assert dataclasses.replace(figures([]), claims=claims).verdicts == {"it is better": word}


# words


def line(label: str, role: str, score: float, **changed: Any) -> Line:
    plain: dict[str, Any] = {
        "strategy": "dycoke",
        "options": {},
        "assistant": None,
        "frames": 16,
        "at": {},
        "stands_for": "",
        "retention": 50.0,
        "decode": 25.0,
        "flops": 40.0,
        "answered": 150,
        "errors": 0,
        "categories": {},
    }
    interval = Interval(score, score - 5, score + 5)
    return Line(label, label.partition(",")[0], role, score=interval, **{**plain, **changed})


def figures(lines: list[Line], axes: dict[str, list[Any]] | None = None) -> Grid:
    every = [line("full model", FULL, 90.0, retention=100.0), *lines]
    setting = ("tiny", "tinyvqa", 150, 0, 10_000, 48, "float32", 6, 36)
    return Grid(*setting, axes or {}, ["layer 3 of 28 is 1 of 6"], every)


def test_numbers_are_written_with_sign_interval_and_star() -> None:
    assert words.estimate(Interval(78.44, 71.2, 84.9)) == "78.4 [71.2, 84.9]"
    assert words.estimate(Interval(78.44)) == "78.4"
    minus = words.MINUS
    claimed = words.difference(Interval(-4.1, -8.0, -0.2, -1))
    assert claimed == f"{minus}4.1 [{minus}8.0, {minus}0.2] *"
    assert words.difference(Interval(0.04, -1.0, 1.0, 0)) == f"0.0 [{minus}1.0, +1.0]"
    assert words.difference(Interval(2.0)) == "+2.0"
    assert words.difference(None) == "-"


def test_findings_say_who_is_above_and_who_is_not_told_apart() -> None:
    better, worse = Interval(9.0, 4.0, 14.0, 1), Interval(-9.0, -14.0, -4.0, -1)
    same = Interval(0.0, -5.0, 5.0, 0)
    found = figures(
        [
            line("a", METHOD, 95.0, to_full=same, to_random=better),
            line("b", METHOD, 70.0, to_full=same, to_random=worse),
            line("c", METHOD, 71.0, to_full=same, to_random=same),
        ]
    )
    assert list(words.findings(found)) == [
        "No cell is told from the full model.",
        "Above `random` at the same tokens: a. Below: b. Not told apart: 1 of 3 cells.",
    ]
    claimed = dataclasses.replace(
        found, claims=[Told("a beats b", "describe", "a", "b", better, "holds")]
    )
    assert list(words.findings(claimed))[-1] == (
        '"a beats b", of describe here: holds; a less b: +9.0 [+4.0, +14.0] * points'
    )


# pictures

drawn_here = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="pictures need matplotlib"
)


@drawn_here
def test_an_axis_of_numbers_is_a_curve_for_each_number_of_frames() -> None:
    axes = {"dycoke.merge": [0.3, 0.7], "frames": [8, 16]}
    full = line("full model, 8 frames", FULL, 80.0, frames=8, retention=100.0)
    lines = [
        line(f"DyCoke, {merge}, {frames}", METHOD, 70.0 + frames, frames=frames,
             retention=100 * merge, at={"dycoke.merge": merge, "frames": frames})
        for merge in (0.3, 0.7)
        for frames in (8, 16)
    ]  # fmt: skip
    drawn = pictures("figure5", figures([full, *lines], axes))
    assert list(drawn) == ["figure5.png"]
    alt = drawn["figure5.png"].alt
    assert "score, % over dycoke.merge" in alt
    assert "8 frames: 78.0 at 0.3 and 78.0 at 0.7 (full model 80.0)" in alt
    assert "16 frames: 86.0 at 0.3 and 86.0 at 0.7 (full model 90.0)" in alt


@drawn_here
def test_budgets_are_drawn_with_their_controls() -> None:
    lines = [
        *(line(f"DyToK, {keep}", METHOD, 80.0, at={"keep": keep}, retention=100 * keep)
          for keep in (0.5, 0.25, 0.1)),
        *(line(f"random, {keep}", CONTROL, 60.0, retention=100 * keep + 0.2)
          for keep in (0.5, 0.25, 0.1)),
    ]  # fmt: skip
    drawn = pictures("table4", figures(lines, {"keep": [0.5, 0.25, 0.1]}))
    assert list(drawn) == ["table4.png", "table4-equal-16.png"]
    assert "random: 60.0 at 10, 60.0 at 25 and 60.0 at 50" in drawn["table4.png"].alt
    assert "random: 60.0 at 10.2" in drawn["table4-equal-16.png"].alt


@drawn_here
def test_two_numbers_are_a_heat_map_and_ranges_are_bars(tmp_path: Path) -> None:
    axes = {"fastv.layer": [1, 2], "fastv.drop": [0.5, 0.9]}
    lines = [
        line(f"FastV, {layer}, {drop}", METHOD, 50.0 + 10 * layer + drop,
             at={"fastv.layer": layer, "fastv.drop": drop})
        for layer in (1, 2)
        for drop in (0.5, 0.9)
    ]  # fmt: skip
    (heat,) = pictures("heat", figures(lines, axes)).values()
    assert "fastv.layer by fastv.drop (0.5, 0.9). 1: 60.5, 60.9; 2: 70.5, 70.9" in heat.alt
    axes = {"dytok.layers": [[0, 1], [4, 5]]}
    lines = [line(f"DyToK, {at}", METHOD, 60.0, at={"dytok.layers": at}) for at in ([0, 1], [4, 5])]
    (ranges,) = pictures("bars", figures(lines, axes)).values()
    assert "score, %: full model 90, DyToK, [0, 1] 60 and DyToK, [4, 5] 60" in ranges.alt
    first = ranges.save(tmp_path / "bars.png").read_bytes()
    (again,) = pictures("bars", figures(lines, axes)).values()
    assert again.save(tmp_path / "bars.png").read_bytes() == first
