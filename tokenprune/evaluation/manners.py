"""Manners for Lightning inside somebody else's process: it greets, hints, takes signals over, and
leaves at Ctrl-C.
"""

from __future__ import annotations

import logging
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich

from tokenprune.errors import ConfigError


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's greetings; its bar takes over rich's shared console, which gets its
    settings back.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    console = dict(vars(rich.get_console()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers", UserWarning)  # a hint
        # the results say so
        warnings.filterwarnings("ignore", ".* leaves no token of a video", UserWarning)
        # Lightning 2.6 on torch 2.13, November 2026
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            vars(rich.get_console()).update(console)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def interruptible(trainer: Any) -> Iterator[None]:
    """Ctrl-C stays KeyboardInterrupt: Lightning turns it into an exit of the process and switches
    the signal off.

    However the block ends early, processes that Lightning started end with it: they would go on
    writing.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except BaseException as error:
        if kill := getattr(trainer.strategy.launcher, "kill", None):
            kill(signal.SIGKILL)
        if not (isinstance(error, SystemExit) and trainer.interrupted):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextmanager
def workers_alive() -> Iterator[None]:
    """A worker process that was killed is one sentence: ConfigError."""
    try:
        yield
    except RuntimeError as error:
        if re.match(r"DataLoader worker \(pid", reason := str(error)) is None:
            raise
        raise ConfigError(
            "a process that reads videos ended before its work did, out of memory perhaps "
            f"({reason.strip(' .')}): "
            "with workers=0 the process that evaluates reads them, which takes less memory"
        ) from None
