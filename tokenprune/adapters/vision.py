"""What stages read in front of the language model: the vision tower of a family and its projector.

Axes: `f` frames, `p` patches of one, `c` cells of one, `n` tokens, `d` and `w` widths.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenprune.adapters.language import Given
from tokenprune.errors import StrategyError, UnsupportedModelError
from tokenprune.tokens import Saliency, Signals, Video


class TowerBlock(NamedTuple):
    """A layer of a tower: attention, then what is added to it, from its norm on."""

    layer: nn.Module
    attention: nn.Module  # takes `attention_mask`
    norm: nn.Module  # takes hidden states behind the attention
    mlp: nn.Module  # returns what is added to them


class TowerParts(ABC):
    """The part of an adapter that knows the vision tower."""

    model_type: ClassVar[str]  # `config.model_type` of the family
    model: PreTrainedModel
    # whether the tower puts a CLS row before the patches of a frame
    cls: ClassVar[bool] = False
    # whether the projector takes the patches of a frame one by one, and pooling comes behind it
    pools_behind: ClassVar[bool] = False

    @property
    @abstractmethod
    def body(self) -> nn.Module:
        """The module that merges `input_ids` and pixels and calls the language model."""

    @property
    @abstractmethod
    def tower(self) -> PreTrainedModel:
        """The vision tower."""

    @property
    @abstractmethod
    def tower_attention(self) -> nn.Module:
        """The attention module of the tower layer whose output the projector takes.

        Called with all frames at once, or with one after another. Raises UnsupportedModelError
        where its attention says nothing about a whole frame.
        """

    @property
    def tower_blocks(self) -> list[TowerBlock]:
        """The layers of the tower, each over hidden states `[frames rows width]`.

        Raises UnsupportedModelError where a layer takes something else.
        """
        raise UnsupportedModelError(
            f"the tower of {self.model_type} takes the patches of all frames as one row, and "
            "stages inside a tower need frame by frame: use a strategy that works behind the tower"
        )

    @property
    def tower_rows(self) -> int:
        """Rows of a frame in the tower: patches, and CLS before them."""
        raise NotImplementedError(f"{self.model_type} has no stages inside its tower")

    def tower_patches(self, given: Given) -> Float[Tensor, "f p v"]:
        """All values of every patch in a call of the tower, CLS left out."""
        raise NotImplementedError(f"{self.model_type} has no stages inside its tower")

    def lengths(self, given: Given) -> list[int] | None:
        """Frames of each video in a call that has videos encoded; None where it does not say."""
        return None

    @property
    def tower_layers_read(self) -> Any:
        """The tower's layers that the projector takes, as the configuration has it."""
        return getattr(self.model.config, "vision_feature_layer", None)

    @abstractmethod
    def shown(self, given: Given) -> tuple[Video, ...]:
        """What a call of the tower shows, in order; frames of one size may count as one video."""

    @abstractmethod
    def to_cells(self, maps: Float[Tensor, "f p d"], video: Video) -> Float[Tensor, "f c d"]:
        """Maps of the tower's patches, averaged to the cells of `video` in their order."""

    @classmethod
    def saliency(cls) -> tuple[Saliency, ...]:
        """The kinds of saliency that the tower gives."""
        everywhere = ("received", "mean_query", "pseudo_cls")
        return (*everywhere, "cls") if cls.cls else everywhere

    @classmethod
    def check_signals(cls, signals: Signals, asking: str) -> None:
        """Raises StrategyError where the pipeline `asking` reads what the tower does not give."""
        wanted, given = signals.saliency, cls.saliency()
        if wanted is not None and wanted not in given:
            raise StrategyError(
                f"{asking} reads saliency={wanted!r} of the vision tower, which that of "
                f"{cls.model_type} does not give: choose {' or '.join(map(repr, given))}"
            )
        if signals.grid is not None and not cls.pools_behind:
            raise StrategyError(
                f"{asking} works before the projector, on patches that {cls.model_type} does not "
                "take one by one: choose the form behind it"
            )
        if signals.summary is not None:
            raise StrategyError(
                f"{asking} reads the output of a pooling head, which checkpoints of "
                f"{cls.model_type} do not carry: choose the mean of a frame's tokens"
            )

    @property
    def projector(self) -> nn.Module:
        """What takes the tower's output to the language model's width."""
        return self.body.get_submodule("multi_modal_projector")

    def project(self, states: Float[Tensor, "n c"]) -> Float[Tensor, "n d"]:
        """What the projector makes of single rows; no hook on it runs."""
        return self.projector.forward(states)

    def projected_cells(
        self, states: Tensor, videos: Sequence[Video]
    ) -> list[Float[Tensor, "f c w"]]:
        """What the projector takes in a call that shows `videos`, averaged to their cells.

        Cells already in a family that pools before its projector.
        """
        if states.shape[1] == videos[0].cells:
            return [states]
        first = int(self.cls and math.isqrt(states.shape[1]) ** 2 != states.shape[1])
        return [self.to_cells(states[:, first:], videos[0])]
