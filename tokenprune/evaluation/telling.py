"""What a run says while one waits; whoever started it decides how that is shown."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]  # what happens now; "": a bar of progress follows and says it


def nobody(now: str) -> None:
    """Nothing is shown."""
