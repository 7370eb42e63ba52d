"""Features of a batch of videos between encoder and language model, and some of their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import compat
from tokenprune.adapters import VideoLLM

Rows = Float[Tensor, "b n d"]


@dataclass(frozen=True)
class Encoded:
    """What replaces the placeholders of each sample, and what deepstack adds to them later."""

    pooled: Rows
    deepstack: tuple[Rows, ...] = ()

    @classmethod
    def of(cls, output: Any, batch: int) -> Encoded:
        """From what a model's `get_video_features` or `get_image_features` returns."""
        deeper = getattr(output, "deepstack_features", None) or ()
        stacked = tuple(_by_sample(features, batch) for features in deeper)
        return cls(_by_sample(output.pooler_output, batch), stacked)

    def at(self, rows: Int[Tensor, "m"]) -> Encoded:
        """The same rows of every sample."""
        deeper = tuple(features.index_select(1, rows) for features in self.deepstack)
        return Encoded(self.pooled.index_select(1, rows), deeper)

    def arguments(self, adapter: VideoLLM) -> dict[str, Any]:
        """What hands them to `generate` in place of pixels, in the form that the family takes."""
        deeper = [_as_taken(features, adapter) for features in self.deepstack]
        taken = _as_taken(self.pooled, adapter)
        return compat.encoded(taken, adapter.modality, deeper)

    @property
    def tensors(self) -> list[Tensor]:
        return [self.pooled, *self.deepstack]


def _by_sample(features: Any, batch: int) -> Rows:
    """From one tensor of all samples, or from one for each."""
    parts = features if isinstance(features, (tuple, list)) else [features]
    flat = torch.cat([part.flatten(0, -2) for part in parts])
    return flat.unflatten(0, (batch, -1))


def _as_taken(features: Rows, adapter: VideoLLM) -> Any:
    """One tensor of all samples; families with grids take one for each."""
    packed = hasattr(adapter.model.config.vision_config, "spatial_merge_size")
    return features.unbind() if packed else features
