"""A command as jobs of a cluster, in the terminal where it was typed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenprune.cli.waiting import waiting


def submitted(words: Sequence[str], config: Any, out: Path) -> str:
    """What the jobs print; how far they are goes to standard error. Raises ConfigError."""
    with waiting():
        from tokenprune.study.submitting import submit
    return submit(words, config, out.expanduser(), _say)


def _say(now: str) -> None:
    print(now, file=sys.stderr, flush=True)
