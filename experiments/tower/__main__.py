"""Stages inside the vision tower on the embedded benchmark: score over the tower's multiply-adds.

Answers are kept in a file, so that a second call asks for new ones only.

python -m experiments.tower --samples 225
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from experiments.tower.arms import arms
from experiments.tower.measure import Answers
from experiments.tower.page import Findings, Point, as_csv, draw, page
from tokenprune.results.statistics import Resamples, holm
from tokenprune.tasks.tinyvqa import TinyVQA

_MODEL, _DTYPE, _FRAMES = "tiny", "float32", 16


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tower",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--samples", type=int, default=450, help="30 of each category")
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 16, 28], help="tome.r")
    parser.add_argument(
        "--thresholds", nargs="+", type=float, default=[0.12, 0.15, 0.2, 0.3], help="of reuse"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, default=Path("runs/tower.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/tower"))
    options = parser.parse_args()
    task = TinyVQA(samples=options.samples, frames=_FRAMES, seed=options.seed)
    answers = Answers(options.answers, task, _MODEL, _DTYPE)
    findings = measure(answers, options.rows, options.thresholds)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m experiments.tower {shlex.join(sys.argv[1:])}".rstrip()
    out.with_suffix(".md").write_text(page(findings, command, out.name), encoding="utf-8")
    out.with_suffix(".csv").write_text(as_csv(findings), encoding="utf-8")
    draw(findings, out.with_suffix(".png"))
    print(f"wrote {out}.md, .csv and .png")


def measure(answers: Answers, rows: list[int], thresholds: list[float]) -> Findings:
    """Every arm's score beside the full model's."""
    task, every = answers.task, arms(rows, thresholds)
    measured = answers.of(every)
    drawn = Resamples([task.label(index).category for index in range(len(task))], seed=task.seed)
    full, *scores = [np.array([one.score for one in found]) for found in measured]
    changes = holm([drawn.paired(own, full) for own in scores])
    points = [
        Point(
            arm.method,
            arm.setting,
            arm.control,
            float(np.mean([one.flops for one in found])),
            drawn.estimate(own),
            change,
        )
        for arm, found, own, change in zip(every[1:], measured[1:], scores, changes, strict=True)
    ]
    return Findings(
        answers.model,
        answers.dtype,
        len(task),
        task.frames,
        task.seed,
        drawn.estimate(full),
        points,
    )


if __name__ == "__main__":
    main()
