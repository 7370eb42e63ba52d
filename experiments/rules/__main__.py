"""The paper's rule against the released rule: each method that has both, on the embedded benchmark.

Answers are kept in a file, so that a second call asks for new ones only.

python -m experiments.rules --samples 225
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from experiments.rules.arms import PAPER, RELEASED, Arm, Refused, arms, methods
from experiments.rules.measure import Answers
from experiments.rules.page import Findings, Pair, as_csv, page, side
from tokenprune.results.statistics import Resamples, holm
from tokenprune.strategy import Pipeline
from tokenprune.study.config import CellConfig
from tokenprune.study.run import extent_of
from tokenprune.tasks.tinyvqa import TinyVQA

_MODEL, _DTYPE, _FRAMES = "tiny", "float32", 16


def main() -> None:
    known = methods()
    parser = argparse.ArgumentParser(
        prog="python -m experiments.rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--samples", type=int, default=450, help="30 of each category")
    parser.add_argument(
        "--budgets", nargs="+", type=float, default=[0.5, 0.25, 0.1], help="fractions of the tokens"
    )
    parser.add_argument("--methods", nargs="+", choices=known, default=known)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, default=Path("runs/rules.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/paper-vs-released"))
    options = parser.parse_args()
    task = TinyVQA(samples=options.samples, frames=_FRAMES, seed=options.seed)
    extent = extent_of(CellConfig(model=_MODEL, task=task.name, frames=_FRAMES))
    found, refused = arms(options.methods, options.budgets, extent)
    findings = measure(Answers(options.answers, task, _MODEL, _DTYPE), found, refused)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m experiments.rules {shlex.join(sys.argv[1:])}".rstrip()
    out.with_suffix(".md").write_text(page(findings, command, out.name), encoding="utf-8")
    out.with_suffix(".csv").write_text(as_csv(findings), encoding="utf-8")
    print(f"wrote {out}.md and .csv")


def measure(answers: Answers, found: list[Arm], refused: list[Refused]) -> Findings:
    """Both sides of every pair, and how far apart they are."""
    task = answers.task
    full, *measured = answers.of([Arm("none", None, PAPER, Pipeline()), *found])
    categories = [task.label(index).category for index in range(len(task))]
    drawn = Resamples(categories, seed=task.seed)
    scores = [np.array([one.score for one in arm]) for arm in (full, *measured)]
    place = {(arm.method, arm.budget, arm.rule): i for i, arm in enumerate(found)}
    both = {
        (method, budget): (i, place[method, budget, RELEASED])
        for (method, budget, rule), i in place.items()
        if rule == PAPER and (method, budget, RELEASED) in place
    }
    changes = holm([drawn.paired(scores[1 + b], scores[1 + a]) for a, b in both.values()])
    sides = [side(arm, drawn.estimate(own)) for arm, own in zip(measured, scores[1:], strict=True)]
    pairs = [
        Pair(method, budget, sides[a], sides[b], change)
        for ((method, budget), (a, b)), change in zip(both.items(), changes, strict=True)
        if change is not None
    ]
    pairs.sort(key=lambda pair: (-(pair.budget or 0.0), pair.method))
    return Findings(
        answers.model,
        answers.dtype,
        len(task),
        len(set(categories)),
        task.frames,
        task.seed,
        drawn.estimate(scores[0]),
        pairs,
        refused,
    )


if __name__ == "__main__":
    main()
