"""`tokenprune sweep`: strategies at equal budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenprune.cli.command import Command, as_yaml, keys, narrow
from tokenprune.cli.submitted import submitted
from tokenprune.cli.waiting import waiting
from tokenprune.loading.installed import check
from tokenprune.options import printing
from tokenprune.study.launcher import SUBMITIT
from tokenprune.study.sweep import SweepConfig, parse_sweep

ABOUT = """Compares strategies at the same measured token budgets on the same samples, with the
full model and random pruning at every budget, prints one table and writes results.csv,
results.parquet and two plots. Commas separate what is swept. Finished cells stay in out/cells:
the same command, also after an interruption, runs only what is missing.

keys (KEY=VALUE):
{keys}
  STRATEGY.FIELD   options of a strategy, which multiply it: fastv.layer=1,2 dytok.layers=[1,2],[3]

examples:
  tokenprune sweep strategy=dycoke,fastv,prumerge+dytok keep=0.5,0.25,0.1
  tokenprune sweep strategy=fastv fastv.layer=1,2,3 keep=0.5 limit=40 out=results/layers
"""


def run(words: Sequence[str], line: str) -> None:
    """Runs what is missing and prints the table, or shows what would be run."""
    wanted, words = printing(words)
    config = parse_sweep(words)
    if wanted:
        with waiting():
            check()
            from tokenprune.study.preview import preview_sweep

            shown = as_yaml(preview_sweep(config))
        print(shown)
        return
    if config.launcher == SUBMITIT:
        print(submitted(["sweep", *words], config, Path(config.folder)), end="")
        return
    with waiting():
        check()
        from tokenprune.study.run import sweep
        from tokenprune.study.screen import swept
    narrow().print(swept(sweep(config, line)))


COMMAND = Command(
    "sweep",
    "strategies at equal budgets",
    ABOUT.format(keys=keys(SweepConfig, besides=True)),
    "KEY=VALUE",
    run,
    schema=SweepConfig,
)
