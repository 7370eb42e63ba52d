"""Video-LLaVA: CLIP, no pooling, every frame's CLS before its patches, Llama."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tokenprune.adapters.base import Given
from tokenprune.adapters.llava import Llava
from tokenprune.adapters.preparation import Frames, fit
from tokenprune.adapters.rows import one_each
from tokenprune.pixels import Cropped
from tokenprune.tokens import TEXT, Video


class VideoLlava(Llava, model_type="video_llava"):
    """`VideoLlavaForConditionalGeneration` of any size."""

    cls = True

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Frames:
        vision = config.vision_config
        pixels = fit(Cropped.of(settings, vision.image_size), vision.image_size)
        return Frames(pixels, side=vision.image_size // vision.patch_size, beside=1)

    @property
    def tower(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.body.get_submodule("video_tower"))

    @property
    def cells(self) -> int:
        return self.patches**2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f p d"]:
        return maps

    def pattern(self, video: Video) -> Int[Tensor, "r"]:
        """A frame's CLS row comes before its patches: it is text for every stage."""
        tokens = torch.arange(video.tokens).unflatten(0, (video.frames, video.cells))
        return torch.cat([tokens.new_full((video.frames, 1), TEXT), tokens], dim=1).flatten()

    def videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> list[list[Video]]:
        """One for each sample: features `[frames rows d]` do not tell where a video ends."""
        return one_each(counts, self.cells + 1, self.video)
