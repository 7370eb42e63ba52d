"""A sign of life on the terminal while heavy libraries are imported and weights are loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LIBRARIES = "importing torch and transformers"
_A_SECOND = 5  # turns: a sign, and no load on what is being measured


@contextmanager
def waiting(now: str = _LIBRARIES) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr that says what happens `now`; gone when the block ends.

    Yields what changes the words: "" takes the spinner away, where something else is shown, and
    words bring it back. Nothing is shown where stderr is no terminal, nor by other processes than a
    run's first.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    from tokenprune.storage import first_process

    screen = Console(stderr=True)
    if not screen.is_terminal or screen.is_dumb_terminal or not first_process():
        yield lambda now: None
        return
    turning = Spinner("line" if screen.options.ascii_only else "dots", now)
    # what a plug-in prints goes where it would go, and above the sign if that is the same terminal
    shared = sys.stdout.isatty()
    live = Live(
        turning,
        console=screen,
        refresh_per_second=_A_SECOND,
        transient=True,
        redirect_stdout=shared,
    )

    def tell(now: str) -> None:
        if not now:
            live.stop()
            return
        turning.update(text=now)
        live.start(refresh=True)

    with live:
        yield tell
