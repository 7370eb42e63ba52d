"""The study of the papers' rules against the released ones: what is compared, measured, written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from arbitrary import video

from experiments.rules.__main__ import measure
from experiments.rules.arms import PAPER, RELEASED, Arm, arms, methods
from experiments.rules.measure import Answers, Lengths, Measured, Sizes, sizes
from experiments.rules.page import as_csv, page
from tokenprune import Extent, Pipeline, registry
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.strategy import Allocator
from tokenprune.tasks.tinyvqa import TinyVQA

EXTENT = Extent(16, 36, 6)


def test_every_method_with_both_rules_is_compared() -> None:
    names = methods()
    assert {"flashvid", "prunevid", "dycoke"} <= set(names)
    assert "fastv" not in names
    found, refused = arms(names, [0.5], EXTENT)
    for name in names:
        of = [one for one in found if one.method == name]
        rules = {one.rule for one in (*of, *refused) if one.method == name}
        assert rules == {PAPER, RELEASED}, name
        for one in of:
            one.pipeline.check(EXTENT.depth)
            strategy = next(s for s in one.pipeline.strategies if s.name == name)
            assert vars(strategy)["follow"] == one.rule
            assert (one.pipeline.allocator is not None) == isinstance(strategy, Allocator)


def test_what_cannot_have_a_rule_or_a_budget_says_why() -> None:
    _, refused = arms(["cdpruner", "dycoke"], [0.1], EXTENT)
    assert [(one.method, one.budget, one.rule) for one in refused] == [
        ("cdpruner", None, RELEASED),
        ("dycoke", 0.1, PAPER),
        ("dycoke", 0.1, RELEASED),
    ]
    assert "retains 25.0% to 100.0% here" in refused[1].reason


def test_lengths_are_those_of_the_tokens_that_went_in() -> None:
    tokens = video(torch.tensor([[1.0], [2.0], [0.0], [4.0]]), 2)
    rows = torch.tensor([1, 3])
    own = Lengths.of(tokens[rows].with_features(torch.tensor([[-2.0], [8.0]])))
    before, close = Lengths.of(tokens), pytest.approx
    assert sizes(before, own) == close((1.0, 1.95, 2.0))
    assert sizes(before, own, [torch.tensor([0, 0, -1, 1])]) == close((4 / 3, 1.3 + 2 / 3, 2.0))
    assert sizes(before, Lengths.of(tokens[rows[:0]])) is None


class _Told(Answers):
    """Answers without a model: under the released rule some samples go wrong."""

    def of(self, arms: list[Arm]) -> list[list[Measured]]:  # pyright: ignore
        return [
            [
                Measured(
                    float(arm.rule == PAPER or index % 7 > 1),
                    0.3,
                    0.25,
                    None
                    if arm.pipeline.allocator
                    else Sizes(1.0, 1.5, 2.0 + 6 * (arm.rule != PAPER)),
                )
                for index in range(len(self.task))
            ]
            for arm in arms
        ]


def test_the_page_in_eighty_columns(tmp_path: Path) -> None:
    task = TinyVQA(samples=120, frames=16)
    found, refused = arms(["flashvid", "dycoke", "dytok"], [0.5, 0.1], EXTENT)
    findings = measure(_Told(tmp_path / "none", task, "tiny", "float32"), found, refused)
    text = page(findings, "python -m experiments.rules", "rules")
    assert max(map(len, text.splitlines())) <= 80
    told = " ".join(text.split())
    assert "reliably better than the paper's: nowhere" in told
    assert "reliably worse than the paper's: `dycoke` at 50.0 % (-" in told
    assert "released rule of `flashvid` makes rows longer at 10.0 %: up to 8.0 times" in told
    assert "`dycoke`, released at 10.0 %: dycoke retains 31.2% to 100.0% here" in told
    lines = as_csv(findings).splitlines()
    assert len(lines) == 1 + 2 * len(findings.pairs) == 11
    assert text == page(findings, "python -m experiments.rules", "rules")


@pytest.mark.parametrize("method", ["flashvid"])
def test_watching_changes_no_answer_and_is_asked_once(tmp_path: Path, method: str) -> None:
    task = TinyVQA(samples=2, frames=16)
    answers = Answers(tmp_path / "answers.jsonl", task, "tiny", "float32")
    pipeline = registry.build(method, {f"{method}.layer": 4, f"{method}.follow": RELEASED})
    wanted = [Arm("none", None, PAPER, Pipeline()), Arm(method, None, RELEASED, pipeline)]
    full, own = answers.of(wanted)
    model, processor = load("tiny", "float32", "cpu")
    samples = [task[index] for index in range(2)]
    inputs = processor.encode([(one.frames, one.full_question) for one in samples])
    alone = generate(model, pipeline, processor, inputs, {"max_new_tokens": 48, **GREEDY})
    assert [one.score for one in own] == [
        task.score(text, sample) for text, sample in zip(alone.texts, samples, strict=True)
    ]
    assert [one.average for one in own] == [
        alone.report[row].layer_average_ratio for row in range(2)
    ]
    assert [one.entering for one in full] == [1.0, 1.0]
    assert [one.sizes for one in full] == [Sizes(1.0, 1.0, 1.0)] * 2
    assert all(one.average < one.entering < 0.2 for one in own)
    before = answers.file.read_bytes()
    assert answers.of(wanted) == [full, own]
    assert answers.file.read_bytes() == before
