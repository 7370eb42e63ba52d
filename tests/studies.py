"""Results of studies that never ran: cells of the experiment, with answers made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tokenprune.results.answer import Answer
from tokenprune.strategy import Extent
from tokenprune.study import config, plan
from tokenprune.study.results import Results, gather

EXPERIMENT = Path(__file__).parent.parent / "experiments/tinyvqa_retention.yaml"
EXTENT = Extent(16, 36, 6)
Skill = Callable[[plan.Cell, str], float]  # chance of a right answer, by cell and category


def made_up(
    skill: Skill,
    *words: str,
    categories: tuple[str, ...] = ("colour", "order", "needle"),
    each: int = 40,
    resamples: int = 4000,
) -> tuple[config.StudyConfig, list[plan.Cell], Results]:
    """The experiment, changed by `words`, answered with `skill`: what is hard is so for all."""
    _, study = config.read_study([str(EXPERIMENT), f"resamples={resamples}", *words])
    cells = plan.plan_cells(study, EXTENT)
    luck = np.random.default_rng(0).random((each, len(categories)))
    answers = {
        cell.slug: [
            _answer(cell, skill(cell, category), float(luck[row, column]), category, row)
            for row in range(each)
            for column, category in enumerate(categories)
        ]
        for cell in cells
        if cell.pipeline is not None
    }
    return study, cells, gather(cells, answers, study.resamples, study.seed)


def _answer(cell: plan.Cell, skill: float, luck: float, category: str, row: int) -> Answer:
    names = ("layer_average_ratio", "input_ratio", "decode_ratio")
    tokens: dict[str, object] = dict.fromkeys(names, cell.budget)
    if cell.guide is not None:
        tokens["frame_weights"] = [1.0 + (frame == 5) for frame in range(16)]
    return Answer(
        index=row,
        id=f"{category}-{row}",
        category=category,
        question="",
        answer="",
        evidence=[5 if row % 2 else 6],
        score=float(luck < skill),
        tokens=tokens,
        flops_ratio=cell.budget,
    )
