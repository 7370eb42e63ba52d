"""What a pass of the language model is to the hooks: a prompt's prefill, or what follows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune.runtime.attention import Tap
from tokenprune.runtime.prompt_state import PromptState

# positional and keyword arguments of a decoder layer
LayerArguments = tuple[tuple[Tensor], dict[str, Any]]


class Phase(ABC):
    """A pass under way. Its kinds are `Prefill`, `Turn`, `DecodeStep` and `HidingStep`.

    Keyword arguments narrowed at one layer replace the caller's in all layers above, which get the
    originals.
    """

    lap: ClassVar[str]  # what its time is booked under
    prompt: PromptState
    cache: Cache | None  # what it fills, if the session guards that

    @abstractmethod
    def taps(self) -> dict[nn.Module, Tap]:
        """What reads attention during this pass, by attention module."""

    @abstractmethod
    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        """The arguments that `layer` gets instead of `given`, None if they are the same."""

    @abstractmethod
    def finish(self) -> PromptState | None:
        """Writes the report of a pass that came to its end; the prompt, if this was its prefill."""
