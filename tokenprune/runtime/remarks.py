"""Warnings in the name of this package, from a hook or from the end of the program."""

from __future__ import annotations

import warnings


class Remarks:
    """What one session remarks on: every topic once."""

    def __init__(self) -> None:
        self._topics: set[str] = set()

    def __call__(self, topic: str, message: str | None) -> None:
        """Warns; None says nothing."""
        if message is not None and topic not in self._topics:
            self._topics.add(topic)
            warn(message)


def warn(message: str) -> None:
    """A UserWarning whose origin is this module."""
    warnings.warn(message, stacklevel=1)
