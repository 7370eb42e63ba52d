"""`tokenprune reproduce`: tables of papers, cell by cell."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tokenprune.cli.command import Command, console, keys
from tokenprune.reproduce.config import ReproduceConfig, parse

ABOUT = """Puts our figure beside the printed one for every cell of a paper's table, and for every
cell that has none the command that would fill it. Without a name: the index of all tables.

What needs no run (ratios, FLOPs, budgets, the papers' own arithmetic) is computed at once, without
weights or network. Scores and speeds run where weights, data and a device are here; finished jobs
are found again, and the same command goes on after an interruption.

Each cell has one word: exact, slip (differs, the reason is on file), wrong; reproduced, deviates,
partial; not run, blocked.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune reproduce                                what there is
  tokenprune reproduce dycoke/table1                  all that can be had here and now
  tokenprune reproduce dycoke/table1 plan=true        what is missing, hours, disk, judge calls
  tokenprune reproduce dycoke/table1 model.7B=/weights/ov-7b columns=vmme_wo_subs rows=Full,DyCoke
  tokenprune reproduce dytok/table16 device=cuda      speed, on random weights of the real size
  tokenprune reproduce dycoke/table5 analogue=true    the same grid on the embedded models
  tokenprune reproduce dytok/figure1 video=clip.mp4 question="When does the parrot appear?"
  tokenprune reproduce all check=true                 status 1 if a figure without a run is wrong
"""


def run(words: Sequence[str], line: str) -> None:
    """Prints what was asked for; see `reproduce.run`."""
    config = parse(words)
    if not config.download:  # read by the hub's and lmms-eval's libraries when they are imported
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    from tokenprune.reproduce.data import home
    from tokenprune.reproduce.run import reproduce

    os.environ.setdefault("HF_HOME", str(home()))  # some of lmms-eval's tasks fail without it
    reproduce(config, line, console())


COMMAND = Command(
    "reproduce",
    "tables of papers, cell by cell",
    ABOUT.format(keys=keys(ReproduceConfig)),
    "[PAPER[/TABLE]] KEY=VALUE",
    run,
    schema=ReproduceConfig,
)
