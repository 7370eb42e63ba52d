"""Metrics of answers, and their averages."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tokenprune import tasks
from tokenprune.evaluation.category_scores import CategoryScores
from tokenprune.tasks.metrics import METRICS, event_f1, exact_match
from tokenprune.tasks.questions import CATEGORIES

EVENTS = [
    "red circle appears",
    "blue ring appears",
    "red circle turns blue",
    "blue circle leaves",
    "blue ring leaves",
]
answers = st.lists(st.sampled_from(EVENTS), min_size=1, unique=True)
texts = st.text(alphabet="ab ,.R\n") | st.lists(st.sampled_from(EVENTS)).map(", ".join)


def told(events: list[str]) -> str:
    return ", ".join(events) + "."


@pytest.mark.parametrize(
    ("prediction", "score"),
    [("red", 1), (" Red.\n", 1), ("red .", 1), ("blue", 0), ("", 0), ("red red", 0), (".", 0)],
)
def test_exact_match(prediction: str, score: float) -> None:
    assert exact_match(prediction, "red") == exact_match("red", prediction) == score


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("red circle appears, blue ring appears, blue ring leaves.", 1),
        (" Red circle  appears,blue ring appears , BLUE ring leaves", 1),
        ("red circle appears, blue ring leaves.", 2 * 2 / 5),
        (
            "blue ring appears, red circle appears, blue ring leaves.",
            2 * 2 / 6,
        ),  # one of the two is out of order
        ("red circle appears, red circle appears, blue ring appears, blue ring leaves.", 2 * 3 / 7),
        ("red ring appears.", 0),
        ("blue ring leaves, blue ring appears, red circle appears", 2 / 6),
        ("", 0),
        (" , . ", 0),
    ],
)
def test_event_f1(prediction: str, score: float) -> None:
    assert event_f1(
        prediction, "red circle appears, blue ring appears, blue ring leaves."
    ) == pytest.approx(score)


@given(texts, texts)
def test_metrics_are_shares(prediction: str, answer: str) -> None:
    for metric in METRICS.values():
        assert 0 <= metric(prediction, answer) <= 1
    assert event_f1(prediction, answer) == event_f1(answer, prediction), "F1 has no sides"


@given(answers)
def test_the_answer_itself_is_right(events: list[str]) -> None:
    assert all(metric(told(events), told(events)) == 1 for metric in METRICS.values())


@given(answers, st.randoms(use_true_random=False))
def test_another_order_is_never_better(events: list[str], chance: random.Random) -> None:
    mixed = chance.sample(events, len(events))
    assert (event_f1(told(mixed), told(events)) == 1) == (mixed == events)


@given(answers, st.lists(st.sampled_from(EVENTS), min_size=1), st.integers(0, 9))
def test_an_invented_event_is_worse(events: list[str], prediction: list[str], place: int) -> None:
    before = event_f1(told(prediction), told(events))
    assume(before > 0)
    prediction.insert(place, "white cross appears")
    assert event_f1(told(prediction), told(events)) < before


@given(answers, st.integers(0, 4), st.integers(0, 9))
def test_an_event_told_twice_is_worse(events: list[str], which: int, place: int) -> None:
    longer = list(events)
    longer.insert(place, events[which % len(events)])
    assert event_f1(told(longer), told(events)) == pytest.approx(
        2 * len(events) / (2 * len(events) + 1)
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1))
def test_the_macro_average_is_the_mean_of_the_categories(marks: list[tuple[str, float]]) -> None:
    metric, halves = (
        CategoryScores(["a", "b", "c", "never"]),
        [CategoryScores(["a", "b", "c", "never"]) for _ in range(2)],
    )
    for number, (category, score) in enumerate(marks):
        metric.update(category, score)
        halves[number % 2].update(category, score)
    result = metric.compute()
    groups = {
        category: [score for name, score in marks if name == category] for category, _ in marks
    }
    assert result["categories"] == pytest.approx(
        {f: math.fsum(s) / len(s) for f, s in groups.items()}
    )
    assert result["score"] == pytest.approx(sum(result["categories"].values()) / len(groups))
    for state in ("total", "count"):  # what torchmetrics does with the states of several processes
        together = torch.stack([getattr(half, state) for half in halves]).sum(0)
        assert torch.allclose(together, getattr(metric, state))
        assert metric._reductions[state] is not None


def test_one_category_gives_the_plain_mean() -> None:
    metric = CategoryScores(["all"])
    for score in (1.0, 0.1, 0.4):
        metric.update("all", score)
    assert metric.compute() == {"categories": {"all": 0.5}, "score": 0.5}
    with pytest.raises(ValueError, match="category 'some' is none of the task's: all"):
        metric.update("some", 1.0)


def test_a_task_scores_by_the_metric_of_the_sample() -> None:
    task, frames = (
        tasks.build("tinyvqa", samples=len(CATEGORIES), frames=8, seed=0),
        torch.zeros(1, 1, 1, 3, dtype=torch.uint8),
    )
    short = tasks.Sample("x", "What colour is the ring?", "red", "colour", frames)
    assert [task.score(text, short) for text in (" Red.", "blue")] == [1, 0]
    *others, story = (task[i] for i in range(len(task)))
    assert {sample.metric for sample in others} == {"exact_match"}
    assert story.category == "describe" and task.score(story.answer, story) == 1
    assert 0 < task.score(story.answer.rpartition(",")[0], story) < 1
    assert task.categories == tuple(sample.category for sample in (*others, story))
