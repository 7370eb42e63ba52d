"""The study of cheaper guides: what each one costs, exactly, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.guide.costs import at_7b, depths, probes
from experiments.guide.findings import CONTROLS, Findings, findings
from experiments.guide.measure import HOST, NONE, RANDOM, Answers
from experiments.guide.page import as_csv, page
from experiments.guide.picture import draw
from experiments.guide.settings import PAPER, SELF, Setting, settings
from tokenprune.evaluation.generate import generate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.study.keyframes import reciprocal_rank
from tokenprune.tasks.tinyvqa import TinyVQA

LOW = Setting(SELF, 2, (0, 0))


def test_each_guide_is_read_in_the_papers_layers_and_in_single_ones() -> None:
    every = [*settings({SELF: 6, "nano": 5})]
    assert PAPER in every
    assert len(every) == len({*every}) == 2 * (7 + 5)  # the last third of five layers is one


def test_at_7b_a_pooled_guide_leaves_the_gain() -> None:
    """Operations up to the first token, the probe included: what point 3 of docs is about."""
    speedup = {one.guide: one.speedup for one in at_7b()}
    assert speedup[f"{SELF}, pool 1, last third"] < 1, "reading everything costs more than it saves"
    pooled = speedup[f"{SELF}, pool 2, last third"]
    assert pooled >= 1.3
    assert speedup[f"{SELF}, pool 2, layer 19"] > pooled
    assert speedup["0.5B, pool 1, last third"] >= 1.3
    assert speedup["no guide"] > speedup["0.5B, pool 2, last third, shared tower"] > pooled


def test_probes_are_counted_as_live_ones_run() -> None:
    every = [PAPER, Setting(SELF, 2, None), LOW, Setting("nano", 1, None)]
    costs = [one.of_prefill for one in probes(every, 16)]
    assert costs == sorted(costs, reverse=True) or costs[3] > costs[2]
    assert costs[1] / costs[0] == pytest.approx(1 / 4, abs=0.05)
    task, (model, processor) = TinyVQA(samples=1), load("tiny", "float32", "cpu")
    inputs = processor.encode([(task[0].frames, task[0].full_question)])
    for one in every[:3]:
        made = generate(model, one.pipeline(0.25), processor, inputs, {"max_new_tokens": 1})
        layers = 1 + max(one.read(depths()[SELF]))
        assert made.report.probe == (layers, one.pool, False)


def made_up(better: float, task: TinyVQA) -> Findings:
    """Guides that differ in what the cheap one scores."""
    every = [PAPER, Setting(SELF, 2, None), LOW]
    draw_ = np.random.default_rng(0)
    own = draw_.integers(0, 2, len(task)).astype(float)
    other = np.where(draw_.random(len(task)) < abs(better), float(better > 0), own)
    kept = np.full(len(task), 0.25)
    pairs = {PAPER: own, every[1]: other, LOW: own}
    scores = {one: np.stack([score, kept], 1) for one, score in pairs.items()}
    scores |= {name: np.stack([own, kept], 1) for name in CONTROLS}
    ranks: dict[Any, Any] = {
        PAPER: draw_.random(40),
        every[1]: draw_.random(40) / 2 + 0.5,
        LOW: np.full(40, 0.1),
    }
    ranks["chance"] = np.full(40, 0.3)
    return findings(task, every, scores, ranks, probes(every, 16), 0.25)


def test_who_finds_needles_is_recommended_unless_it_answers_worse(tmp_path: Path) -> None:
    task = TinyVQA(samples=75)
    found = made_up(0.3, task)
    assert found.recommended is not None
    assert found.recommended.setting == Setting(SELF, 2, None)
    text = page(found, at_7b(), "python -m experiments.guide", "guide")
    assert "Recommended: `dytok.pool=2`" in text
    assert text == page(found, at_7b(), "python -m experiments.guide", "guide")
    assert f"{found.paper.rank.value:.3f}" in text
    lines = as_csv(found).splitlines()
    assert len(lines) == 1 + len(found.guides) + len(CONTROLS)
    draw(found, tmp_path / "guide.png")
    assert (tmp_path / "guide.png").stat().st_size > 10_000
    worse = made_up(-0.5, task)
    assert worse.recommended is None
    assert "No cheaper guide is recommended" in page(worse, at_7b(), "", "guide")


def test_answers_and_ranks_are_those_of_the_pipelines_and_are_kept(tmp_path: Path) -> None:
    task, needles = TinyVQA(samples=2), TinyVQA(samples=30, seed=1)
    every = [PAPER, Setting("nano", 2, (1, 1))]
    file = tmp_path / "answers.jsonl"
    answers = Answers(file, 0.25)
    scores, ranks = answers.scores(task, every), answers.ranks(needles, every)
    assert {*scores} == {NONE, RANDOM, HOST, *every}
    assert [one[:, 1].mean() for one in scores.values()] == [1.0, *[pytest.approx(0.25)] * 4]
    kept = file.read_text()
    again = Answers(file, 0.25)
    assert np.array_equal(again.scores(task, every)[PAPER], scores[PAPER])
    assert np.array_equal(again.ranks(needles, every)[every[1]], ranks[every[1]])
    assert file.read_text() == kept, "nothing was asked again"
    (model, processor), (nano, _) = (load(name, "float32", "cpu") for name in ("tiny", "nano"))
    place = [*task.categories].index("needle")
    samples = [needles[index] for index in range(place, 30, len(task.categories))]
    inputs = processor.encode([(sample.frames, sample.full_question) for sample in samples])
    for one, guide in zip(every, (None, nano), strict=True):
        settings_ = {"max_new_tokens": 1, **GREEDY}
        made = generate(model, one.pipeline(0.25), processor, inputs, settings_, assistant=guide)
        expected = [
            reciprocal_rank(made.report[row].frame_weights or [], sample.evidence)
            for row, sample in enumerate(samples)
        ]
        assert ranks[one].tolist() == pytest.approx(expected)
