"""The page of a study: what it says of results that are known, and how long its lines are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import made_up

from tokenprune.study import plan, plot
from tokenprune.study.findings import findings
from tokenprune.study.headline import summary
from tokenprune.study.page import page
from tokenprune.study.results import Row
from tokenprune.tasks.questions import CATEGORIES

WHERE = {
    "dtype": "float32",
    "device": "cpu",
    "versions": {"tokenprune": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
}
NO_GUIDE = "allocator=null"


def told(cell: plan.Cell, category: str) -> float:
    """All methods are as good as the control, which loses by budget."""
    return 0.9 - 0.4 * (1 - cell.budget)


def sentences(text: str) -> int:
    """Full stops that end one: of numbers and options they do not."""
    return len(re.findall(r"\.(?: |$)", text))


def both(skill: object, *words: str) -> tuple[str, str]:
    """The summary and the findings, in one line each."""
    results = made_up(skill, *words)[2]  # pyright: ignore[reportArgumentType]
    return " ".join(summary(results)), " ".join(findings(results))


def test_none_is_better() -> None:
    short, long = both(told)
    assert sentences(short) == 3
    assert (
        "keeping only 75, 50, 25, 13.9 and 11.1 % of its visual tokens, at random, costs" in short
    )
    assert "No method is reliably better than `random` at any budget; worse: none of 73" in short
    assert (
        "`+dytok`, which shares the budget out to frames, makes no reliable difference in 52"
        in (short)
    )
    assert "Above `random` at the same budget: none. Below: none. Not told apart: 73 of 73" in long
    assert "helps: none. Hurts: none. Not told apart: 52 of 52 cells." in long


def test_some_are_better_and_some_are_worse() -> None:
    def skill(cell: plan.Cell, category: str) -> float:
        better = 0.35 * (cell.method == "fastv" and cell.tokens < 27)
        worse = 0.45 * (cell.method == "prumerge" and cell.guide is None)
        return told(cell, category) + (cell.budget < 1) * (better - worse)

    short, long = both(skill)
    assert sentences(short) == 3
    where = "`fastv` with and without `+dytok` at 50 and 25 %"
    assert f"Reliably better than `random`: {where}; worse: 5 of 73 cells." in short
    assert "reliably helps in 10 (most of all `prumerge+dytok` (self) at" in short
    assert "of 52 comparisons with the same method alone, and hurts in none." in short
    assert f"Above `random` at the same budget: {where}. " in long
    assert "Below: `prumerge` alone at every budget. Not told apart: 62 of 73 cells." in long
    assert "alone, helps: `prumerge+dytok` at every budget. Hurts: none." in long


def test_all_but_one_are_named_by_the_one() -> None:
    def skill(cell: plan.Cell, category: str) -> float:
        return 0.9 if cell.budget == 1 or cell.method == "uniform" else 0.3

    _, long = both(skill, NO_GUIDE)
    assert "Above the full model: none. Below: every method except `uniform` at every" in long


def test_random_may_be_better_than_the_full_model() -> None:
    def skill(cell: plan.Cell, category: str) -> float:
        return {1.0: 0.4}.get(cell.budget, 0.9)

    short, long = both(skill, "retentions=[0.5,0.25]")
    assert sentences(short) == 3
    assert re.search(r"at random, changes that by \+\d+\.\d and \+\d+\.\d points\. No", short)
    assert "Above the full model: every method at every budget. Below: none." in long


def test_what_the_control_loses_may_be_unclear() -> None:
    short, _ = both(
        lambda cell, category: 0.8 - 0.01 * (cell.tokens == 27) - 0.5 * (cell.tokens < 9)
    )
    assert "(not reliably at 75, 50 and 25 %)" in short


@pytest.mark.parametrize("guided", [False, True])
def test_dytok_may_hurt_and_a_study_may_do_without_it(guided: bool) -> None:
    words = [] if guided else [NO_GUIDE]
    short, _ = both(lambda cell, category: 0.9 - 0.5 * (cell.guide is not None), *words)
    assert sentences(short) == 3
    if guided:
        assert "reliably hurts in 52 (most of all" in short and "hurts in none" not in short
    else:
        assert "At 25 %, the smallest budget that every method reaches, " in short


def test_few_samples_claim_nothing() -> None:
    results = made_up(told, each=2)[2]
    short = " ".join(summary(results))
    assert sentences(short) == 3 and "[" not in short
    assert "The samples do not tell any method from `random`." in short
    assert "What `+dytok`, which shares the budget out to frames, adds" in short


def test_the_page_is_narrow_short_and_begins_with_three_sentences(tmp_path: Path) -> None:
    """In all the categories of the benchmark, with every method told apart somewhere."""

    def skill(cell: plan.Cell, category: str) -> float:
        step = 0.05 * (sum(map(ord, cell.label)) % 7)
        hard = 2.0 if category in ("flash", "apart", "tally", "lookalike") else 1.0
        return 0.95 - step * hard * (1 - cell.budget)

    study, _, results = made_up(skill, categories=tuple(CATEGORIES), each=30)
    text = page(study, results, "tokenprune study a.yaml", WHERE, "tinyvqa")
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 150
    heading, first, picture, *_ = text.split("\n\n")
    assert heading.startswith("# ") and picture.startswith("![")
    assert " ".join(first.split()) == " ".join(summary(results))
    assert sentences(" ".join(first.split())) == 3
    assert "| `fastv` | " in text and "retains" not in text
    for method in ("dycoke", "fastv"):
        assert text.count(f"`{method}` cannot keep as little as 13.9 and 11.1 %: ") == 1
    plot.retention(results, tmp_path / "score.png")
    plot.categories(results, 9, tmp_path / "categories.png")
    assert all((tmp_path / name).stat().st_size for name in ("score.png", "categories.png"))


def test_the_categories_that_differ_most_are_named() -> None:
    def skill(cell: plan.Cell, category: str) -> float:
        return 0.0 if (cell.method, category) == ("prumerge", "order") and cell.budget < 1 else 1.0

    study, _, results = made_up(skill, NO_GUIDE)
    text = " ".join(page(study, results, "", WHERE, "tinyvqa").split())
    assert "furthest apart in `order` (`prumerge` -100.0, `" in text
    assert "## Categories at 25 %" in text


@pytest.mark.parametrize("others", [0, 2])
def test_lines_stay_at_their_budget_and_names_inside(
    others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of however many methods."""
    results = made_up(told, NO_GUIDE)[2]

    def again(row: Row, number: int) -> Row:
        method = f"{row.cell.method} number {number}"
        return replace(row, cell=replace(row.cell, method=method))

    more = [again(row, number) for number in range(others) for row in results.rows[1:]]
    results = replace(results, rows=(*results.rows, *more))
    drawn: list[Any] = []
    save = plot._save
    monkeypatch.setattr(plot, "_save", lambda *done: (drawn.append(done[0]), save(*done)))
    plot.retention(results, tmp_path / "score.png")
    (figure,) = drawn
    (axis,) = figure.axes
    methods = {row.cell.method for row in results.rows[1:]}
    lines = [line for line in axis.lines if line.get_label() in methods]
    assert len(lines) == len(methods) > 5 * (1 + others)
    for line in lines:
        apart = [abs(x - round(x)) for x in line.get_xdata()]
        assert max(apart) < 0.45, "nearer to its own budget than to another"
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1


def test_a_name_wider_than_the_plot_stands_by_itself(tmp_path: Path) -> None:
    results = made_up(told, NO_GUIDE)[2]
    first, *others = results.rows[1:]
    longest = replace(first, cell=replace(first.cell, method="+".join(["visionzip"] * 12)))
    results = replace(results, rows=(results.rows[0], longest, *others))
    plot.retention(results, tmp_path / "score.png")
    assert (tmp_path / "score.png").stat().st_size
