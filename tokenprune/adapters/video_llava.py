"""Video-LLaVA: CLIP, no pooling, every frame's CLS before its patches, Llama."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from tokenprune.adapters.base import Given
from tokenprune.adapters.llava import Llava, patches_of
from tokenprune.adapters.rows import Array, one_each
from tokenprune.pixels import Cropped
from tokenprune.tokens import TEXT, Video


class VideoLlava(Llava, model_type="video_llava"):
    """`VideoLlavaForConditionalGeneration` of any size."""

    cls = True
    prepares, beside = Cropped, 1

    @classmethod
    def side(cls, config: PreTrainedConfig) -> int:
        return patches_of(config)

    @property
    def tower(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.body.get_submodule("video_tower"))

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f p d"]:
        return maps

    def pattern(self, video: Video) -> Int[Array, "r"]:
        """A frame's CLS row comes before its patches: it is text for every stage."""
        tokens = np.arange(video.tokens).reshape(video.frames, video.cells)
        return np.pad(tokens, ((0, 0), (1, 0)), constant_values=TEXT).ravel()

    def videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> list[list[Video]]:
        """One for each sample: features `[frames rows d]` do not tell where a video ends."""
        return one_each(counts, self.cells + 1, self.video)
