"""Ctrl-C and SIGTERM: one of them ends a command in good order, more of them do not disturb that,
until a third.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """What has arrived so far."""

    first: int = signal.SIGINT
    times: int = 0

    @property
    def status(self) -> int:
        """The exit status that shells expect: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.first

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.times += 1
        if self.times == 1:
            self.first = number
            raise KeyboardInterrupt
        if self.times > 2:  # it does not end by itself, and answers are on the disk already
            os._exit(self.status)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """SIGINT and SIGTERM raise KeyboardInterrupt inside the block, once; what is ignored stays
    ignored.

    After one of them the process is expected to end, and that is not disturbed either: the block's
    handlers stay. Only the main thread can be told of signals: in another one nothing changes.
    """
    stop, before = Stop(), {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {
            number: handler
            for number, handler in before.items()
            if handler not in (signal.SIG_IGN, None)
        }
    for number in before:
        signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items() if not stop.times else ():
            signal.signal(number, handler)
