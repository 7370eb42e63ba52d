"""What tokenprune has to know about a family of video LLMs: one file each declares it.

An adapter knows no strategy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tokenprune.adapters.preparation import Preparation
from tokenprune.errors import UnsupportedModelError
from tokenprune.lookup import FAMILIES

STRETCHED = ("linear", "dynamic", "yarn")  # kinds of RoPE whose `factor` multiplies the context


def context_of(config: PreTrainedConfig) -> int | None:
    """Rows that a model's positions were made for, text and visual tokens together.

    None where it does not say. `config` is the whole model's or its language model's. RoPE that is
    stretched by a `factor` counts stretched: from the context it was trained with if the
    configuration names that, and never below `max_position_embeddings`.
    """
    text = config.get_text_config()
    stated = getattr(text, "max_position_embeddings", None)
    if stated is None:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") not in STRETCHED:
        return stated
    trained = rope.get("original_max_position_embeddings") or stated
    return max(stated, int(trained * (rope.get("factor") or 1.0)))


class VideoLLM(ABC):
    """A stock model instance seen as tower, projector and language model.

    Holds a reference and changes nothing.
    """

    model_type: ClassVar[str]  # `config.model_type` of the family
    # rows behind a video's last frame that are not visual tokens (a newline): text for every stage
    separators: ClassVar[int] = 0

    def __init_subclass__(cls, model_type: str | None = None) -> None:
        if model_type is not None:  # else what several families share
            cls.model_type = model_type
            FAMILIES.add(model_type, cls)

    # which of transformers' processors prepares frames
    reads: ClassVar[Literal["video_processor", "image_processor"]] = "video_processor"

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Preparation:
        """How the family takes videos, without a model.

        `settings` are the contents of the checkpoint's preprocessor configuration. Raises
        LoadingError for what is not reproduced, or does not fit the tower.
        """
        raise UnsupportedModelError(
            f"the family {cls.model_type} does not say how it takes videos: its adapter needs "
            "`preparation`"
        )

    @classmethod
    def placeholder_of(cls, config: PreTrainedConfig) -> int:
        """The token id that stands for a row of a video."""
        return config.video_token_id

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @property
    @abstractmethod
    def body(self) -> nn.Module:
        """The module that merges `input_ids` and pixels and calls the language model."""

    @property
    @abstractmethod
    def language_model(self) -> PreTrainedModel:
        """Receives `inputs_embeds`, `position_ids`, `attention_mask` and a key/value cache."""

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The decoder layers."""

    @property
    @abstractmethod
    def tower(self) -> PreTrainedModel:
        """The vision tower; called with one image per frame."""

    @property
    @abstractmethod
    def tower_attention(self) -> nn.Module:
        """The attention module of the tower layer whose output the projector takes."""

    @property
    @abstractmethod
    def cells(self) -> int:
        """Visual tokens of one frame at the LLM's input."""

    @abstractmethod
    def placeholders(
        self, input_ids: Int[Tensor, "b s"] | None, inputs_embeds: Float[Tensor, "b s d"] | None
    ) -> Bool[Tensor, "b s"]:
        """Marks the rows that video features replace."""

    @abstractmethod
    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        """The host's 2-D pooling, for maps that go with the features."""

    @abstractmethod
    def embed(
        self, input_ids: Int[Tensor, "b s"], pixels: Float[Tensor, "v f c h w"]
    ) -> Float[Tensor, "b s d"]:
        """Input embeddings of the uncompressed prompt, as the language model would receive them."""

    @property
    @abstractmethod
    def video_token_id(self) -> int:
        """The token id of a video placeholder."""

    @property
    def depth(self) -> int:
        return len(self.layers)

    def attention(self, layer: int) -> nn.Module:
        """The attention module of one decoder layer."""
        return self.layers[layer].get_submodule("self_attn")

    def modules(self) -> list[nn.Module]:
        """The parts of the model that hooks and taps may be on.

        Raises AttributeError where one is missing.
        """
        attentions = [self.attention(layer) for layer in range(self.depth)]
        return [self.model, self.body, self.language_model, self.tower, *self.layers, *attentions]

    @property
    def text_config(self) -> PreTrainedConfig:
        return self.language_model.config

    @property
    def device(self) -> torch.device:
        return self.model.device
