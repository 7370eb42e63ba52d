"""Every error that speaks to the user: one sentence that says what to write or do instead.

The command line prints those and ends with status 2. Any other exception is a defect and keeps its
traceback.
"""

from __future__ import annotations


class TokenpruneError(ValueError):
    """Base of all errors that speak to the user."""


class ConfigError(TokenpruneError):
    """A word on the command line that means nothing, or that contradicts another."""


class StrategyError(TokenpruneError):
    """A strategy, option or combination that cannot work, or one that breaks its contract."""


class NameTakenError(TokenpruneError):
    """A second strategy, task or model family wants the name `taken`, which `holder` has."""

    def __init__(self, kind: str, taken: str, holder: str) -> None:
        super().__init__(kind, taken, holder)
        self.kind, self.taken, self.holder = kind, taken, holder

    def __str__(self) -> str:
        return f"the {self.kind} name {self.taken!r} is taken by {self.holder}: choose another"


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


class JudgeError(LmmsError):
    """A judge model that could not be asked, or whose verdict cannot be read."""
