"""Why a method loses to random on TinyVQA, or wins: by the tokens that show what is asked about.

Reads finished runs and studies, which hold what every method kept, and asks the model about chosen
tokens. Its answers are kept beside the first folder, so that a second call asks for new ones only.

python -m experiments.evidence runs/tinyvqa_retention --budgets 0.5 0.25
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from experiments.evidence.answers import Answers
from experiments.evidence.cases import Material, material
from experiments.evidence.cells import evidence
from experiments.evidence.effects import Study
from experiments.evidence.files import as_csv, draw
from experiments.evidence.page import Findings, page
from tokenprune.errors import ConfigError

_LONGEST = 48  # tokens of an answer; descriptions take up to 40
_ANSWERS = "evidence.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of finished runs, or of a study")
    parser.add_argument("--out", type=Path, default=Path("docs/results/evidence"))
    parser.add_argument(
        "--budgets", nargs="+", type=float, default=[0.5, 0.25], help="fractions of the tokens"
    )
    parser.add_argument("--limit", type=int, help="look at so many samples only")
    options = parser.parse_args()
    try:
        found = material(options.folders, options.budgets, options.limit)
    except ConfigError as error:
        parser.error(str(error))
    answers = options.folders[0].parent / f"{options.folders[0].name}.{_ANSWERS}"
    findings = measure(found, answers)
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m experiments.evidence {shlex.join(sys.argv[1:])}"
    out.with_suffix(".md").write_text(page(findings, command, out.name), encoding="utf-8")
    out.with_suffix(".csv").write_text(as_csv(findings), encoding="utf-8")
    draw(findings, out.with_suffix(".png"))
    print(f"wrote {out}.md, .csv and .png")


def measure(found: Material, answers: Path) -> Findings:
    """What the runs and the model have to say; `answers` is the file that keeps the model's."""
    shows = [evidence(found.task, index, found.cells).numpy() for index in found.indices]
    asked = Answers(answers, found.task, found.model, found.dtype, _LONGEST)
    study = Study(found, np.stack(shows), asked)
    doses, effects = study.measure()
    return Findings(found, study.baselines(), doses, effects)


if __name__ == "__main__":
    main()
