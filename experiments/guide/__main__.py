"""What a cheaper guide of DyToK costs, what it finds, and what is answered under it.

The embedded models, TinyVQA at a quarter of the tokens. Answers are kept in a file, so that a
second call asks for new ones only.

python -m experiments.guide --samples 225
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from experiments.guide.costs import at_7b, depths, probes
from experiments.guide.findings import Findings, findings
from experiments.guide.measure import Answers
from experiments.guide.page import as_csv, page
from experiments.guide.picture import draw
from experiments.guide.settings import settings
from tokenprune.tasks.tinyvqa import TinyVQA

_FRAMES = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.guide",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--samples", type=int, default=450, help="30 of each category")
    parser.add_argument("--needles", type=int, default=300, help="further samples, all needles")
    parser.add_argument("--keep", type=float, default=0.25, help="fraction of the tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", type=Path, default=Path("runs/guide.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/guide"))
    options = parser.parse_args()
    found = measured(options)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m experiments.guide {shlex.join(sys.argv[1:])}".rstrip()
    out.with_suffix(".md").write_text(page(found, at_7b(), command, out.name), encoding="utf-8")
    out.with_suffix(".csv").write_text(as_csv(found), encoding="utf-8")
    draw(found, out.with_suffix(".png"))
    print(f"wrote {out}.md, .csv and .png")


def measured(options: argparse.Namespace) -> Findings:
    """All settings of both guides, beside the controls."""
    task = TinyVQA(samples=options.samples, frames=_FRAMES, seed=options.seed)
    # others than those that are answered, so that who finds needles is not who is judged
    needles = TinyVQA(
        samples=options.needles * len(task.categories), frames=_FRAMES, seed=options.seed + 1
    )
    every = [*settings(depths())]
    answers = Answers(options.answers, options.keep)
    scores = answers.scores(task, every)
    ranks = answers.ranks(needles, every)
    return findings(task, every, scores, ranks, probes(every, _FRAMES), options.keep)


if __name__ == "__main__":
    main()
