"""What a pass of the language model is to the hooks: a prompt's prefill, or what follows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune.runtime.attention import Tap
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.tokens import TEXT

# positional and keyword arguments of a decoder layer
LayerArguments = tuple[tuple[Tensor], dict[str, Any]]


class Phase(ABC):
    """A pass under way. Its kinds are `Prefill`, `Turn`, and the steps: `DecodeStep`, `HidingStep`
    and, on a static cache, `HeldStep`.

    Keyword arguments narrowed at one layer replace the caller's in all layers above, which get the
    originals.
    """

    acting: Collection[int] = ()  # the layers that it enters; the others run without a hook of ours

    lap: ClassVar[str]  # what its time is booked under
    prompt: PromptState
    cache: Cache | None  # what it fills, if the session guards that

    @abstractmethod
    def taps(self) -> dict[nn.Module, Tap]:
        """What reads attention during this pass, by attention module."""

    @abstractmethod
    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        """The arguments that `layer` gets instead of `given`, None if they are the same."""

    def seen(self, layer: int) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Of each key that `layer` attends to, its frame, counted through all videos of a sample
        and TEXT on words, and whether it is real.
        """
        number = self.prompt.at(layer)
        frame, valid = self.prompt.layouts[number].frame, self.prompt.validity(number)
        words = frame.new_full((len(frame), valid.shape[1] - frame.shape[1]), TEXT)
        return torch.cat([frame, words], dim=1), valid

    @abstractmethod
    def finish(self) -> PromptState | None:
        """Writes the report of a pass that came to its end; the prompt, if this was its prefill."""
