"""LLaVA-Video: LLaVA-OneVision with a choice of pooling, and newlines between rows or frames."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenprune import ops
from tokenprune.adapters.llava import Llava
from tokenprune.tokens import TEXT, Video


class LlavaVideo(Llava, model_type="llava_video"):
    """`LlavaVideoForConditionalGeneration` of `tokenprune.loading`, of any size."""

    @property
    def cells(self) -> int:
        config = self.model.config
        rounded = math.ceil if config.pool == "bilinear" else math.floor
        return rounded(self.patches / config.pool_stride) ** 2

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, self.model.config.pool, self.model.config.pool_stride)

    def pattern(self, video: Video) -> Int[Tensor, "r"]:
        """A newline behind each row, each frame or the last one is text for every stage."""
        run = {"grid": video.width, "frame": video.cells, "one_token": video.tokens}
        length = run[self.model.config.newline]
        return pad(
            torch.arange(video.tokens).unflatten(0, (-1, length)), (0, 1), value=TEXT
        ).flatten()
