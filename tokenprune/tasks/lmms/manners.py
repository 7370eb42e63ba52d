"""What lmms-eval is allowed to say, and how its errors become ours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tokenprune.errors import LmmsError

_HOME = "HF_HOME"  # some tasks fail without it


@contextmanager
def quiet() -> Iterator[None]:
    """Without what lmms-eval and datasets say while they work: logs, bars, and warnings about their
    own code.
    """
    import datasets  # pyright: ignore[reportMissingImports]
    from loguru import logger  # pyright: ignore[reportMissingImports]

    bars, log = not datasets.are_progress_bars_disabled(), logging.getLogger("datasets")
    level = log.level
    logger.disable("lmms_eval")
    datasets.disable_progress_bars()
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        logger.enable("lmms_eval")
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of lmms-eval, which it repeats and hides in a RetryError, in one line."""
    try:
        yield
    except LmmsError:
        raise
    except (Exception, SystemExit) as error:
        attempt = getattr(error, "last_attempt", None)
        cause = attempt.exception() if attempt is not None else error
        if isinstance(cause, KeyError) and cause.args == (_HOME,):
            raise LmmsError(
                f"{what}: it looks for videos below ${_HOME}: set that, as in "
                f"{_HOME}=~/.cache/huggingface"
            ) from error
        raise LmmsError(f"{what}: {type(cause).__name__}: {cause}") from error
