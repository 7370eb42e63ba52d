"""Statistics against closed forms, scipy and simulation, and a run's summary and table made of
hand-made outcomes.
"""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from tokenprune import registry
from tokenprune.cli.details import details
from tokenprune.evaluation.run import Finished
from tokenprune.results import statistics
from tokenprune.results.answer import ROLES, Answer
from tokenprune.results.columns import COLUMNS
from tokenprune.results.statistics import Paired, Resamples, mcnemar
from tokenprune.results.summarise import summarise
from tokenprune.results.summary import Setting, Summary
from tokenprune.results.system import System
from tokenprune.results.wording import verdict

MARKS = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 2), min_size=10, max_size=40)


def columns(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.array(pairs).T.copy()
    return first, second


def test_the_bootstrap_is_scipys_but_for_one_draw() -> None:
    scores = np.random.default_rng(0).beta(2, 5, size=60)
    found = Resamples(["all"] * 60, 8000).estimate(scores)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=8000, method="percentile", rng=1
    ).confidence_interval
    wider = math.sqrt(60 / 59)
    assert found.interval is not None
    low, high = found.interval
    assert high - found.value == pytest.approx((theirs.high - found.value) * wider, rel=0.06)
    assert found.value - low == pytest.approx((found.value - theirs.low) * wider, rel=0.06)


def test_the_interval_of_a_difference_is_that_of_the_closed_form() -> None:
    """Stratified and paired: what both systems find hard makes it no wider."""
    draw = np.random.default_rng(1)
    hard = draw.random(300)
    first, second = (np.clip(hard + draw.normal(shift, 0.05, 300), 0, 2) for shift in (0.3, 0.35))
    categories, change = ["a"] * 200 + ["b"] * 100, second - first
    paired = Resamples(categories, 4000).paired(second, first)
    spread = math.sqrt(change[:200].var(ddof=1) / 200 + change[200:].var(ddof=1) / 100) / 2
    assert paired.value == pytest.approx((change[:200].mean() + change[200:].mean()) / 2)
    assert paired.interval == pytest.approx(
        (paired.value - 1.96 * spread, paired.value + 1.96 * spread), abs=1e-3
    )
    assert paired.mcnemar_p is None, "scores are graded"
    alone = Resamples(categories, 4000).estimate(first).interval
    assert (
        alone
        and paired.interval
        and alone[1] - alone[0] > 4 * (paired.interval[1] - paired.interval[0])
    )


def test_the_interval_of_a_difference_covers_it() -> None:
    """Right in `first` alone with 20 %, in `second` alone with 10 %: the truth is 0.1, with 40 + 20
    samples.
    """
    draw, covered, trials = np.random.default_rng(2), 0, 400
    for trial in range(trials):
        change = draw.choice([1.0, -1.0, 0.0], p=[0.2, 0.1, 0.7], size=60)
        paired = Resamples(["a"] * 40 + ["b"] * 20, 400, seed=trial).paired(
            (change > 0) * 1.0, (change < 0) * 1.0
        )
        assert paired.interval is not None
        covered += paired.interval[0] <= 0.1 <= paired.interval[1]
    assert 0.91 <= covered / trials <= 0.98


@given(MARKS, st.integers(1, 5))
def test_a_system_does_not_differ_from_itself(pairs: list[tuple[float, float]], half: int) -> None:
    scores, categories = columns(pairs)[0], ["a"] * 5 + ["b"] * (len(pairs) - 5)
    assert Resamples(categories, 50).paired(scores, scores) == (0.0, [0.0, 0.0], 1.0, 1.0, None)
    graded = scores / half + 0.1
    assert Resamples(categories, 50).paired(graded, graded) == (0.0, [0.0, 0.0], 1.0, None, None)


@given(MARKS)
def test_swapping_two_systems_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    first, second = columns(pairs)
    drawn = Resamples(["a"] * len(pairs), 200)
    there, back = drawn.paired(second, first), drawn.paired(first, second)
    assert there.value == -back.value and there.mcnemar_p == back.mcnemar_p == mcnemar(
        first, second
    )
    assert (there.interval is None) == (back.interval is None)
    if there.interval is not None and back.interval is not None:
        assert there.interval == pytest.approx([-back.interval[1], -back.interval[0]])
        assert there.interval[0] <= there.value <= there.interval[1]


@given(MARKS)
def test_mcnemar_is_a_fair_coin_over_the_discordant_pairs(pairs: list[tuple[float, float]]) -> None:
    first, second = columns(pairs)
    better, worse = int((first > second).sum()), int((first < second).sum())
    tail = sum(math.comb(better + worse, k) for k in range(min(better, worse) + 1)) / 2 ** (
        better + worse
    )
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    agreed = np.ones(7)
    assert mcnemar(np.append(first, agreed), np.append(second, agreed)) == mcnemar(first, second)


def test_mcnemar_needs_right_and_wrong() -> None:
    right, wrong = np.ones(6), np.zeros(6)
    assert mcnemar(right, wrong) == pytest.approx(2 / 2**6)
    assert mcnemar(right, wrong + 0.5) is mcnemar(right[:0], wrong[:0]) is None


@pytest.mark.parametrize("sizes", [(6, 8), (7, 12), (5, 10, 14)])
def test_rounding_makes_no_difference(sizes: tuple[int, ...]) -> None:
    """Categories that cancel exactly leave 0 in every resampling, not 1e-17, which would count as
    above or below it.
    """
    categories = [category for category, size in enumerate(sizes) for _ in range(size)]
    amounts = (0.1, -0.1) if len(sizes) == 2 else (0.1, 0.2, -0.3)
    assert set(
        Resamples(categories, 50).draws(np.array([amounts[category] for category in categories]))
    ) == {0.0}


def test_what_cannot_be_told() -> None:
    scores = np.array([0.0, 1.0] * 4)
    assert Resamples(["a"] * 4 + ["b"] * 4).paired(scores, 1 - scores).interval is None, (
        "categories below five"
    )
    assert Resamples(["a"] * 8).paired(scores, scores - 1).interval is None, (
        "every sample changed by 1: no spread"
    )
    assert verdict(Paired(0.0, None, None, 0.01), "x").startswith("the samples give no interval")
    for unsure in ([0.0, 0.1], [-0.1, 0.1]):
        assert (
            verdict(Paired(0.0, unsure, 0.06, None), "x") == "the interval does not tell them apart"
        )
    assert verdict(Paired(0.05, [0.01, 0.1], 0.01, None), "x") == "above x"
    assert verdict(Paired(-0.05, [-0.1, -0.01], 0.01, None), "x") == "below x"
    assert Paired(0.05, [0.01, 0.1], 0.01, None, 0.2).sign == 0, "not after the correction"


def test_memory_stays_bounded_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, categories = np.random.default_rng(0).random(700), ["a"] * 500 + ["b"] * 200
    whole = Resamples(categories, 4000).estimate(scores)
    monkeypatch.setattr(statistics, "_BLOCK", 10_000)
    tracemalloc.start()
    assert Resamples(categories, 4000).estimate(scores) == whole
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 4000 * 700, (
        "a byte per drawn count; as floating point numbers there would be eight times that"
    )


def interval(*categories: list[float], seed: int = 0) -> list[float] | None:
    names = [index for index, scores in enumerate(categories) for _ in scores]
    return Resamples(names, 4000, seed).estimate(np.concatenate(categories)).interval


def test_intervals() -> None:
    assert interval([1.0] * 7 + [0.0] * 3) == pytest.approx([0.3968, 0.8922], abs=1e-4), (
        "Wilson, 7 of 10"
    )
    assert interval([1.0]) == pytest.approx([0.2065, 1.0], abs=1e-4)
    spread = 1.96 * math.sqrt(0.05 / 40)
    assert interval([0.2, 0.4, 0.6, 0.8] * 10) == pytest.approx(
        [0.5 - spread, 0.5 + spread], abs=0.02
    ), "bootstrap"
    assert interval([0.5] * 9) is interval([0.1, 0.2, 0.3, 0.4]) is None


def test_intervals_of_macro_averages() -> None:
    """Within categories: what sets them apart makes no interval wider, and each counts the same."""
    fair, rare = [0.0, 1.0] * 50, [0.0, 1.0] * 5
    assert interval([0.0, 0.2] * 50, [0.8, 1.0] * 50) == pytest.approx((0.486, 0.514), abs=0.003)
    spread = 1.96 * math.sqrt(0.25 / 99 + 0.25 / 9) / 2
    assert interval(fair, rare) == pytest.approx((0.5 - spread, 0.5 + spread), abs=0.03)
    assert (
        interval(fair, rare, seed=1) == interval(fair, rare, seed=1) != interval(fair, rare, seed=2)
    )
    assert interval(fair, [1.0] * 4) is interval([1.0] * 9, [0.0] * 9) is None


def outcome(index: int, score: float | None, error: str | None = None) -> Answer:
    """A sample of one of two categories; the first half is `a`."""
    whose = {
        "index": index,
        "id": f"s{index}",
        "category": "ab"[index // 10],
        "question": "What?",
        "answer": "red",
    }
    if error is not None:
        return Answer(**whose, error=error)
    ratios = {
        "requested_ratio": 0.5,
        "input_ratio": 0.5,
        "layer_average_ratio": 0.5,
        "decode_ratio": None,
    }
    tokens = {"full": 288, "kept": 144, **ratios, "kept_per_frame": [18] * 8}
    time = {
        "vision_ms": 1.0,
        "strategy_ms": 0.5,
        "prefill_ms": 2.0 + index,
        "decode_ms_per_token": None,
    }
    return Answer(**whose, prediction="red", score=score, tokens=tokens, time=time, flops_ratio=0.4)


def systems(
    *, broken: dict[str, set[int]] | None = None, reused: str | None = None
) -> list[System]:
    """Twenty samples: vanilla is right on all but 2, random on every third, own on every second."""
    rules = {
        "vanilla": lambda i: i % 10 > 0,
        "strategy": lambda i: i % 2 == 0,
        "random": lambda i: i % 3 == 0,
    }
    pipelines = {"vanilla": "none", "strategy": "dycoke", "random": "random"}
    made = []
    for name, right in rules.items():
        lost = (broken or {}).get(name, set())
        outcomes = [
            outcome(i, float(right(i)), "VideoError: [torn] file" if i in lost else None)
            for i in range(20)
        ]
        system = System(
            name, {"strategy": "dycoke"}.get(name, name), registry.build(pipelines[name]), outcomes
        )
        made.append(system)
    made[0].reused = reused
    return made


SETTING = Setting(task="tinyvqa", frames=8, seed=3)


def summed(
    cast: list[System], seed: int = 0, metrics: dict[str, dict[str, Any]] | None = None
) -> Summary:
    """A summary, which survives being written and read."""
    found = summarise(cast, replace(SETTING, seed=seed), metrics)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert Summary.from_dict(json.loads(text)) == found
    return found


def test_the_summary_compares_with_both_controls() -> None:
    summary = summed(systems(), seed=3, metrics={"strategy": {"exact": 0.5}})
    own, random, vanilla = (summary.systems[role] for role in ("strategy", "random", "vanilla"))
    assert summary.subject is own and list(summary.systems) == list(ROLES)
    assert own.score and vanilla.score and random.score
    assert (own.score.value, vanilla.score.value, random.score.value) == pytest.approx(
        (0.5, 0.9, 0.35)
    )
    assert own.to_vanilla and own.to_vanilla.value == pytest.approx(-0.4)
    assert own.to_vanilla.interval and own.to_vanilla.interval[1] < 0
    assert own.share_of_vanilla == pytest.approx(0.5 / 0.9)
    assert random.to_vanilla and random.to_vanilla.value == pytest.approx(-0.55)
    assert vanilla.to_vanilla is vanilla.share_of_vanilla is None
    better = sum(i % 2 == 0 and i % 3 != 0 for i in range(20))
    worse = sum(i % 2 != 0 and i % 3 == 0 for i in range(20))
    assert own.to_random and own.to_random.value == pytest.approx(0.15)
    assert own.to_random.mcnemar_p == pytest.approx(stats.binomtest(better, better + worse).pvalue)
    assert vanilla.to_random is random.to_random is None
    assert summary.metrics == {"strategy": {"exact": 0.5}} and summed(systems()).metrics == {}
    assert summary.errors == 0 and summary.first_error is None and vanilla.reused is None
    assert summed(systems(), seed=3, metrics={"strategy": {"exact": 0.5}}) == summary
    assert summed(systems(), seed=4).systems != summary.systems, "drawn by the seed"


def test_a_system_is_a_row_of_columns() -> None:
    rows = {row["role"]: row for row in summed(systems(), seed=3).rows()}
    own = rows["strategy"]
    assert (own["label"], own["model"], own["task"], own["frames"], own["seed"]) == (
        "dycoke",
        "tiny",
        "tinyvqa",
        8,
        3,
    )
    assert own["layer_average_ratio"] == 0.5 and own["prefill_ms"] == pytest.approx(11.5)
    assert own["score_low"] < own["score"] < own["score_high"] and own["to_random_mcnemar_p"] <= 1
    known = {name for column in COLUMNS for name in column.fields}
    assert all(row.keys() <= known for row in rows.values())
    assert "to_vanilla_p_holm" not in own, "nothing is corrected"


def test_a_lost_sample_is_lost_to_all_systems() -> None:
    summary = summed(systems(broken={"vanilla": {4}, "strategy": {4, 11}}))
    assert (summary.samples, summary.errors, summary.first_error) == (
        20,
        2,
        "s4: VideoError: [torn] file",
    )
    assert [summary.systems[role].errors for role in ROLES] == [1, 0, 2]
    assert {name: one.samples for name, one in summary.categories.items()} == {"a": 9, "b": 9}
    own, random = (summary.systems[role].score for role in ("strategy", "random"))
    assert own and own.value == pytest.approx((4 / 9 + 5 / 9) / 2), "of 4 and 11 one is right"
    assert random and random.value == pytest.approx((4 / 9 + 3 / 9) / 2), (
        "random answered both, and neither counts"
    )
    assert summary.systems["random"].measured["prefill_ms"] == pytest.approx(
        2 + np.median([*range(4), *range(5, 11), *range(12, 20)])
    )


def test_a_run_whose_samples_all_failed() -> None:
    everything = set(range(20))
    summary = summed(systems(broken=dict.fromkeys(ROLES, everything)))
    own = summary.subject
    assert own.score is own.to_vanilla is own.to_random is None
    assert summary.errors == 20 and summary.categories == {} and summary.timed == 0
    counts = {"merged": 0, "unseen": 0, "empty": 0, "unparsed": 0, "guessed": 0}
    assert {name: value for name, value in own.measured.items() if value is not None} == counts
    text = shown(summary, 80)
    assert "20 of 20 samples could not be evaluated" in text and "score" not in text


def test_nothing_is_divided_by_a_full_model_that_is_always_wrong() -> None:
    cast = systems()
    cast[0].answers = [outcome(index, 0.0) for index in range(20)]
    own = summed(cast).subject
    assert own.share_of_vanilla is None
    assert own.to_vanilla and own.to_vanilla.value == pytest.approx(0.5)


def test_systems_answer_the_same_samples() -> None:
    cast = systems()
    cast[1].answers = cast[1].answers[:-1]
    with pytest.raises(ValueError, match="the same samples"):
        summed(cast)


@pytest.mark.parametrize(
    "roles",
    [("vanilla",), ("vanilla", "random"), ("vanilla", "strategy"), ("random",), ("strategy",)],
)
def test_any_roles_make_a_run(roles: tuple[str, ...]) -> None:
    """And what is not there is not compared with."""
    summary = summed([system for system in systems() if system.name in roles])
    assert tuple(summary.systems) == roles and summary.subject is summary.systems[roles[-1]]
    assert summary.subject.to_random is None
    assert (summary.subject.to_vanilla is None) == ("vanilla" not in roles[:-1])
    assert "budget" not in shown(summary, 140)


def shown(summary: Summary, width: int) -> str:
    """The table of a run, as a terminal of this width has it."""
    whole = replace(summary, environment={"dtype": "float32", "device": "cpu"})
    console = Console(width=width, record=True, file=StringIO())
    console.print(details(Finished(Path("runs/a"), whole, []), width))
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_says_what_the_intervals_tell(width: int) -> None:
    figures = {role: {"exact": 0.12345, "rank": 3, "unit": "points"} for role in ROLES[::2]}
    cast = systems(broken={"strategy": {7}}, reused="runs/older")
    summary = summed(cast, metrics=figures)
    text = shown(summary, width)
    change, control = summary.subject.to_vanilla, summary.subject.to_random
    assert change and change.interval and control and control.interval
    low, high = change.interval
    assert f"{100 * change.value:+.1f} p={change.mcnemar_p:.3f}" in text
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}]" in text and "Δ vanilla" in text
    low, high = control.interval
    assert (
        "At the same measured budget, 50.0 % of the visual tokens, dycoke cannot be told apart "
        f"from random: {100 * control.value:+.1f} points, "
        f"95 % interval [{100 * low:+.1f}, {100 * high:+.1f}]."
    ) in text
    assert "1 of 20 samples could not be evaluated (first: s7: VideoError: [torn] file)" in text
    assert (
        "vanilla was not run again: its answers are from runs/older. All times are medians over "
        "the same" in text
    )
    assert "the benchmark's own figures" in text and "0.1235" in text and "points" in text


def test_a_long_reason_is_cut_short() -> None:
    cast = systems()
    cast[1].answers = [outcome(0, None, "a long story " * 50), *cast[1].answers[1:]]
    assert "a long ...); all figures" in shown(summed(cast), 140)
