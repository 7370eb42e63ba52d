"""Which of several processes of one run this is."""

from __future__ import annotations

import os

_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # of torchrun, Slurm, Lightning, in Lightning's order


def first_process() -> bool:
    """Whether this process is the first of the run's, which alone writes its folder.

    As torchrun, Slurm and Lightning have it in the environment.
    """
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"
