"""`tokenprune study`: many methods at many retentions."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.cli.command import Command, as_yaml, keys, narrow
from tokenprune.cli.submitted import submitted
from tokenprune.cli.waiting import waiting
from tokenprune.loading.installed import check
from tokenprune.options import printing
from tokenprune.study.config import StudyConfig, command, folder_of, read_study
from tokenprune.study.launcher import SUBMITIT

ABOUT = """Runs many strategies at many retentions, alone and guided by an allocator, at equal
measured budgets on the same samples, and writes one page of tables, plots and findings. Finished
cells stay in out/cells: a second call, also after an interruption or with more strategies in the
file, runs only what is missing.

FILE is a YAML file of the keys below and of `strategies:`, a list of `spec`, `label` and
`options`; words override it.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune study experiments/tinyvqa_retention.yaml
  tokenprune study experiments/tinyvqa_retention.yaml samples=44 out=runs/small workers=1
"""


def run(words: Sequence[str], line: str) -> None:
    """Runs what is missing and writes the page, or shows what would be run."""
    wanted, words = printing(words)
    file, config = read_study(words)  # before the slow imports below
    if wanted:
        with waiting():
            check()
            from tokenprune.study.preview import preview_study

            shown = as_yaml(preview_study(file, config))
        print(shown)
        return
    if config.launcher == SUBMITIT:
        print(submitted(["study", *words], config, folder_of(file, config)), end="")
        return
    with waiting():
        check()
        from tokenprune.study.run import study
        from tokenprune.study.screen import studied
    narrow().print(studied(study(file, config, command(file, words))))


COMMAND = Command(
    "study",
    "many methods at many retentions",
    ABOUT.format(keys=keys(StudyConfig, besides=True)),
    "FILE KEY=VALUE",
    run,
    schema=StudyConfig,
)
