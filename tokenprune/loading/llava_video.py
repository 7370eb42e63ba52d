"""LLaVA-Video: LLaVA-OneVision with other pooling and other newlines, which transformers lacks.

The stock model with one method overridden: what is not about a video's features is untouched.
"""

from __future__ import annotations

import math
from typing import Any, Literal, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

from tokenprune import ops


@no_type_check  # transformers checks fields itself, and takes keywords that are none
class LlavaVideoConfig(LlavaOnevisionConfig):
    """Its defaults are LLaVA-OneVision's."""

    model_type = "llava_video"
    pool: Literal["bilinear", "average", "max"] = "bilinear"
    pool_stride: int = 2
    # behind the video, behind each frame, or behind each row of a frame
    newline: Literal["one_token", "frame", "grid"] = "one_token"
    # whether vision stages keep every newline, or "row": those before which a token is left
    newline_rule: Literal["keep", "row"] = "keep"


class LlavaVideoModel(LlavaOnevisionModel):
    config_class = LlavaVideoConfig

    def apply_pooling(self, image_features: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        """Of the square of each frame's patches."""
        return ops.pool2d(image_features, self.config.pool, self.config.pool_stride)

    def get_video_features(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pixel_values_videos: Float[Tensor, "b f 3 h w"], **kwargs: Any
    ) -> Any:
        """The stock features, with `image_newline` where the configuration has it."""
        kwargs["return_dict"] = True
        outputs: Any = super().get_video_features(pixel_values_videos, **kwargs)
        if self.config.newline == "one_token":
            return outputs
        frames = outputs.pooler_output[:, :-1].unflatten(1, (pixel_values_videos.shape[1], -1))
        if self.config.newline == "grid":
            frames = frames.unflatten(2, (math.isqrt(frames.shape[2]), -1))
        newline = self.image_newline.to(frames).expand(*frames.shape[:-2], 1, -1)
        outputs.pooler_output = torch.cat((frames, newline), -2).flatten(1, -2)
        return outputs


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):
    config_class = LlavaVideoConfig

    def __init__(self, config: LlavaVideoConfig) -> None:
        # not the stock class's own: it would make a body's weights for nothing
        super(LlavaOnevisionForConditionalGeneration, self).__init__(config)
        text: Any = config.text_config
        self.model = LlavaVideoModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()


def variant_of(config: LlavaOnevisionConfig, **chosen: Any) -> LlavaOnevisionConfig:
    """`config` with the fields of `LlavaVideoConfig` that are not None; as it is where it is a
    LLaVA-OneVision and they are its own.
    """
    wanted = {name: value for name, value in chosen.items() if value is not None}
    before = {name: getattr(config, name, getattr(LlavaVideoConfig, name)) for name in wanted}
    if wanted == before:
        return config
    settings = {**config.to_dict(), "model_type": LlavaVideoConfig.model_type}
    return LlavaVideoConfig.from_dict({**settings, **wanted})


# how transformers is told of a family that it does not have: its own names for loading work then
AutoConfig.register(LlavaVideoConfig.model_type, LlavaVideoConfig, exist_ok=True)
AutoModelForImageTextToText.register(
    LlavaVideoConfig, LlavaVideoForConditionalGeneration, exist_ok=True
)
register_checkpoint_conversion_mapping(
    LlavaVideoConfig.model_type,
    get_checkpoint_conversion_mapping(LlavaOnevisionConfig.model_type) or [],
    overwrite=True,
)
