"""LLaVA-Video: LLaVA-OneVision with a choice of pooling, and newlines between rows or frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import ops
from tokenprune.adapters.llava import Llava, patches_of, size_of
from tokenprune.adapters.preparation import Frames, fit
from tokenprune.adapters.rows import Array
from tokenprune.tokens import TEXT, Video


class LlavaVideo(Llava, model_type="llava_video"):
    """`LlavaVideoForConditionalGeneration` of `tokenprune.loading`, of any size."""

    @classmethod
    def side(cls, config: PreTrainedConfig) -> int:
        rounded = math.ceil if config.pool == "bilinear" else math.floor
        return rounded(patches_of(config) / config.pool_stride)

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Frames:
        size, side = size_of(config), cls.side(config)
        beside = {"grid": side, "frame": 1, "one_token": 0}[config.newline]
        pixels = fit(cls.prepares.of(settings, size), size)
        return Frames(pixels, side, beside, behind=int(config.newline == "one_token"))

    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        return ops.pool2d(maps, self.model.config.pool, self.model.config.pool_stride)

    def pattern(self, video: Video) -> Int[Array, "r"]:
        """A newline behind each row, each frame or the last one is text for every stage."""
        lines = np.arange(video.tokens).reshape(-1, self._run(video))
        return np.pad(lines, ((0, 0), (0, 1)), constant_values=TEXT).ravel()

    def lines(self, video: Video) -> Int[Array, "r"] | None:
        """FastVID's and HoliTom's releases drop a newline with the last token before it."""
        if self.model.config.newline_rule == "keep":
            return None
        run = self._run(video)
        return np.arange(video.tokens // run).repeat(run + 1)

    def _run(self, video: Video) -> int:
        """Tokens from one newline to the next."""
        runs = {"grid": video.width, "frame": video.cells, "one_token": video.tokens}
        return runs[self.model.config.newline]
