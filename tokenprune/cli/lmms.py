"""`tokenprune lmms`: lmms-eval's own command, with our models."""

from __future__ import annotations

from collections.abc import Sequence

from tokenprune.cli.command import Command


def run(words: Sequence[str], line: str) -> None:
    """Hands the words to lmms-eval."""
    from tokenprune.lmms.command import run as evaluate

    evaluate(words)


COMMAND = Command("lmms", "lmms-eval on our models", "", "WORD", run, foreign=True)
