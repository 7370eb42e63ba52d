"""What LLaVA families of transformers share: tower, projector and language model under one body.

A family states how many tokens a frame has, how their features are pooled, and what lies behind
the last of them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenprune.adapters.base import VideoLLM
from tokenprune.errors import UnsupportedModelError


class Llava(VideoLLM):
    """A `...ForConditionalGeneration` whose `model` holds `vision_tower` and `language_model`."""

    def __init__(self, model: PreTrainedModel) -> None:
        if not hasattr(model, "lm_head"):
            name = type(model).__name__
            whole = name.removesuffix("Model") + "ForConditionalGeneration"
            raise UnsupportedModelError(f"{name} is not a whole model: load {whole}")
        super().__init__(model)

    @property
    def body(self) -> nn.Module:
        return self.model.get_submodule("model")

    @property
    def language_model(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.body.get_submodule("language_model"))

    @property
    def layers(self) -> nn.ModuleList:
        return cast(nn.ModuleList, self.language_model.get_submodule("layers"))

    @property
    def tower(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.body.get_submodule("vision_tower"))

    @property
    def tower_attention(self) -> nn.Module:
        layers = cast(nn.ModuleList, self.tower.get_submodule("encoder.layers"))
        chosen = self.model.config.vision_feature_layer
        if not isinstance(chosen, int):
            raise UnsupportedModelError(
                f"this checkpoint concatenates vision layers {chosen}: tower signals are defined "
                "for one layer only"
            )
        # hidden state i is the output of layer i - 1; the last hidden state is index -1
        return layers[chosen if chosen < 0 else chosen - 1].get_submodule("self_attn")

    @property
    def patches(self) -> int:
        """Patches along one side of a frame."""
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    @property
    def video_token_id(self) -> int:
        return self.model.config.video_token_id

    def placeholders(
        self, input_ids: Int[Tensor, "b s"] | None, inputs_embeds: Float[Tensor, "b s d"] | None
    ) -> Bool[Tensor, "b s"]:
        if input_ids is not None:
            return input_ids == self.video_token_id
        assert inputs_embeds is not None
        token = torch.tensor(self.video_token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.model.get_input_embeddings()(token)).all(-1)

    def embed(
        self, input_ids: Int[Tensor, "b s"], pixels: Float[Tensor, "v f c h w"]
    ) -> Float[Tensor, "b s d"]:
        embedded = self.model.get_input_embeddings()(input_ids)
        body: Any = self.body
        features = body.get_video_features(pixels, return_dict=True).pooler_output
        video = self.placeholders(input_ids, None).unsqueeze(-1)
        return embedded.masked_scatter(video, features.flatten(0, 1).to(embedded.dtype))
