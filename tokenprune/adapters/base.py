"""What tokenprune has to know about a family of video LLMs: one file each declares it.

An adapter knows no strategy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tokenprune import compat
from tokenprune.adapters.borrowed import Lent, borrowing
from tokenprune.adapters.language import Given, LanguageRows
from tokenprune.adapters.preparation import Preparation
from tokenprune.adapters.rows import Array, Rows, placed, shared
from tokenprune.adapters.vision import TowerParts
from tokenprune.errors import UnsupportedModelError
from tokenprune.lookup import FAMILIES
from tokenprune.tokens import TEXT, Video


class VideoLLM(TowerParts, LanguageRows):
    """A stock model instance seen as tower, projector and language model.

    Holds a reference and changes nothing.
    """

    # rows behind a video's last frame that are not visual tokens (a newline): text for every stage
    separators: ClassVar[int] = 0
    # whether videos come as videos, or frames as images: those of one sample are then one video
    modality: ClassVar[Literal["video", "image"]] = "video"
    # whether images beside videos, or without any, can be compressed as videos of one frame
    compresses_images: ClassVar[bool] = False
    # what is refused for this family alone, in words: its documentation
    refuses: ClassVar[tuple[str, ...]] = ()

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
    def pictures(
        cls, config: PreTrainedConfig, settings: Callable[[], Mapping[str, Any]]
    ) -> Preparation | None:
        """How the family takes images beside videos; None: a prompt has none.

        `settings` reads the configuration of the checkpoint's image processor.
        """
        return None

    @classmethod
    def placeholder_of(cls, config: PreTrainedConfig) -> int:
        """The token id that stands for a row of a video."""
        return config.video_token_id

    def __init__(self, model: PreTrainedModel) -> None:
        if not hasattr(model, "lm_head"):
            name = type(model).__name__
            whole = name.removesuffix("Model") + "ForConditionalGeneration"
            raise UnsupportedModelError(f"{name} is not a whole model: load {whole}")
        self.model = model
        self._eyes: Any = None  # in place of the body, where another model's tower has looked

    @property
    def body(self) -> nn.Module:
        """The module that merges `input_ids` and pixels and calls the language model."""
        return self.model.get_submodule("model")

    @property
    def language_model(self) -> PreTrainedModel:
        """Receives `inputs_embeds`, `position_ids`, `attention_mask` and a key/value cache."""
        return cast(PreTrainedModel, self.body.get_submodule("language_model"))

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers."""
        return cast(nn.ModuleList, self.language_model.get_submodule("layers"))

    @property
    def cells(self) -> int:
        """Visual tokens of a frame at the LLM's input, in families where all frames have as many.

        Raises UnsupportedModelError for others, whose frames decide it.
        """
        raise UnsupportedModelError(
            f"a frame of {self.model_type} has as many tokens as its size gives: ask its video"
        )

    @property
    @abstractmethod
    def sight(self) -> str:
        """What a model has to share with another one that looks at its prompts, in words."""

    @property
    def video_token_id(self) -> int:
        """The token id of a video placeholder."""
        return self.placeholder_of(self.model.config)

    def placeholders(
        self, input_ids: Int[Tensor, "b s"] | None, inputs_embeds: Float[Tensor, "b s d"] | None
    ) -> Bool[Tensor, "b s"]:
        """Marks the rows that video features replace."""
        return self.marked(self.video_token_id, input_ids, inputs_embeds)

    def marked(
        self,
        token_id: int,
        input_ids: Int[Tensor, "b s"] | None,
        inputs_embeds: Float[Tensor, "b s d"] | None,
    ) -> Bool[Tensor, "b s"]:
        """The rows that are a token, or its embedding."""
        if input_ids is not None:
            return input_ids == token_id
        assert inputs_embeds is not None
        token = torch.tensor(token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.model.get_input_embeddings()(token)).all(-1)

    @abstractmethod
    def brings(self, given: Given) -> bool:
        """Whether a call to the model brings videos, as pixels or as features made before."""

    def videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> list[list[Video]]:
        """The videos of each sample.

        `given` is the call to the model, `counts` the placeholders of each sample, `shown` what the
        tower has been called with, oldest first. Raises LayoutError where they do not fit.
        """
        return shared(counts, self.known_videos(given, counts, shown), self.pattern)

    @abstractmethod
    def known_videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> Sequence[Video]:
        """All videos of a call in order, those of copied samples perhaps once."""

    def pattern(self, video: Video) -> Int[Array, "r"]:
        """The visual token (frame * cells + slot) of each placeholder row of a video, on the host.

        TEXT where a row is none, as the newline behind the last frame.
        """
        return np.append(np.arange(video.tokens), [TEXT] * self.separators).astype(np.int64)

    def lines(self, video: Video) -> Int[Array, "r"] | None:
        """Of each placeholder row of a video, the line that it belongs to.

        Rows that are no tokens go from the prompt with the last token of their line. None: they
        stay whatever goes, as text does.
        """
        return None

    def rows(
        self,
        placeholder: Bool[Array, "b s"],
        given: Given,
        shown: Sequence[tuple[Video, ...]] = (),
    ) -> Rows:
        """Where the visual tokens of a call's prompt are, all on the host. Raises LayoutError."""
        counts = placeholder.sum(1).tolist()
        return placed(placeholder, self.videos(given, counts, shown), self.pattern)

    def image_rows(
        self,
        placeholder: Bool[Array, "b s"],
        given: Given,
        shown: Sequence[tuple[Video, ...]],
    ) -> Rows:
        """As `rows`, of images that are videos of one frame each."""
        raise UnsupportedModelError(f"images of {self.model_type} are not compressed")

    @abstractmethod
    def see(
        self, input_ids: Int[Tensor, "b s"], given: Given, videos: Sequence[Sequence[Video]]
    ) -> dict[str, Any]:
        """What the language model would get for `input_ids` beside mask and positions.

        `given` is the call of another model's tower that looked at `videos`, which come by sample.
        """

    @property
    def eyes(self) -> Any:
        """What `see` lets look at frames: the body, or a stand-in that has been lent an output."""
        return self.body if self._eyes is None else self._eyes

    def borrowing(self, lent: Lent) -> VideoLLM:
        """Itself, with a tower for `see` that has been lent an equal one's output."""
        other = copy(self)
        other._eyes = borrowing(self.body, lent)
        return other

    @property
    def depth(self) -> int:
        return len(self.layers)

    def spares_mask(self) -> bool:
        """Whether a single row that sees all others gets no mask, as the model's attention is."""
        if any(self.window(layer) is not None for layer in range(self.depth)):
            return False
        return self.layer_mask(0, torch.empty(1, 1, 0), None, None) is None

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
    def device(self) -> torch.device:
        """Where prompts go."""
        return self.devices[0]

    @property
    def devices(self) -> list[torch.device]:
        """Those that the model computes on; several where accelerate has spread it."""
        return compat.places(self.model)
