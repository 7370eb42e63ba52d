"""The study of stages inside the tower: what it measures, keeps and writes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from experiments.tower.__main__ import measure
from experiments.tower.measure import Answers
from experiments.tower.page import as_csv, page
from tokenprune import attach
from tokenprune.bench.towers import Tower, own_grid
from tokenprune.loading.checkpoint import load
from tokenprune.tasks.tinyvqa import TinyVQA


def test_work_is_that_of_the_report_and_answers_are_kept(tmp_path: Path) -> None:
    task = TinyVQA(samples=2, frames=8)
    answers = Answers(tmp_path / "answers.jsonl", task, "tiny", "float32")
    findings = measure(answers, [8], [0.2])
    work = {point.setting: point.flops for point in findings.points if not point.control}
    loaded = load("tiny", "float32", "cpu")
    model: Any = loaded[0]
    processor = loaded[1]
    vision = model.config.vision_config
    tower, grid = Tower.of(vision), own_grid(vision)
    samples = [task[index] for index in range(2)]
    inputs = processor.encode([(one.frames, one.full_question) for one in samples])
    for (setting, found), words in zip(
        work.items(), [("tome", {"tome.r": 8}), ("reuse", {"reuse.threshold": 0.2})], strict=True
    ):
        with attach(model, *words) as session:
            model.generate(**inputs, max_new_tokens=1)
        shares = [
            tower.share(one.frames, grid, one.tower.layers)
            for one in session.report.samples
            if one is not None and one.tower is not None
        ]
        assert len(shares) == 2
        assert found == pytest.approx(sum(shares) / 2), setting
        assert found < 1.0
    kept = answers.file.read_bytes()
    text = page(findings, "python -m experiments.tower", "tower")
    assert page(measure(answers, [8], [0.2]), "python -m experiments.tower", "tower") == text
    assert answers.file.read_bytes() == kept, "nothing was asked again"
    assert "They are not the paper's results" in " ".join(text.split())
    rows = list(csv.DictReader(as_csv(findings).splitlines()))
    assert len(rows) == len(findings.points)
