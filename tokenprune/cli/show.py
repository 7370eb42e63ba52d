"""`tokenprune show`: a pipeline, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.cli.command import Command, console
from tokenprune.cli.run import at_budget, pipeline_of
from tokenprune.cli.waiting import waiting
from tokenprune.evaluation.config import RunConfig, parse

ABOUT = """Shows what a pipeline does, stage by stage in running order, with the value of every
option. Takes the same words as run, and loads no model.

examples:
  tokenprune show strategy=dycoke+dytok
  tokenprune show strategy=fastv+dytok fastv.layer=3 dytok.cap=20
  tokenprune show strategy=dycoke keep=0.4             which options that sets
"""


def run(words: Sequence[str], line: str) -> None:
    """Prints the stages in running order."""
    config = parse(words)
    with waiting():
        from tokenprune.cli.catalogue import plan

        shown = plan(at_budget(config, pipeline_of(config)))
    console().print(shown)


COMMAND = Command("show", "a pipeline, stage by stage", ABOUT, "KEY=VALUE", run, schema=RunConfig)
