"""Every error that speaks to the user: its message is one sentence that says what to write or do instead.

The command line prints those and ends with status 2. Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations


class TokenpruneError(ValueError):
    """Base of all errors that speak to the user."""


class ConfigError(TokenpruneError):
    """A word on the command line that means nothing, or that contradicts another."""


class StrategyError(TokenpruneError):
    """A strategy, option or combination that cannot work, or a strategy that breaks its contract."""


class NameTakenError(StrategyError):
    """A second strategy with the name `taken`."""

    def __init__(self, message: str, taken: str) -> None:
        super().__init__(message, taken)
        self.taken = taken

    def __str__(self) -> str:
        return self.args[0]


class LoadingError(TokenpruneError):
    """A model that is not there, is not whole, or does not fit this machine."""


class UnsupportedModelError(TokenpruneError):
    """The model is of no supported family, or lacks what a video LLM needs."""


class PromptError(TokenpruneError):
    """A question or a batch that cannot become a prompt."""


class LayoutError(TokenpruneError):
    """The prompt is laid out in a way that token selection cannot honour."""


class UnsupportedGenerationError(TokenpruneError):
    """A way of generating, or of training, that token selection cannot honour."""


class VideoError(TokenpruneError):
    """A file from which no video can be read whole; the message names it and says why."""


class TaskError(TokenpruneError):
    """A task that does not exist, or whose samples are not what it needs."""


class LmmsError(TokenpruneError):
    """Something about lmms-eval that the user can change."""
