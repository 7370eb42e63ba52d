"""Warnings of a session, each topic once."""

from __future__ import annotations

import warnings


class Remarks:
    """Warns about a topic once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, topic: str, message: str | None) -> None:
        if message is not None and topic not in self._said:
            self._said.add(topic)
            warn(message)


def warn(message: str) -> None:
    """Warns in the name of this module, from wherever it was called: a hook, or the end of the program."""
    warnings.warn(message, stacklevel=1)
