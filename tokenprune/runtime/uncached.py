"""Generation without a cache: for every token the same prompt again, one token longer.

The tower runs once, for the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime.media import VideoPrompt, same
from tokenprune.runtime.tower import TowerReading
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage, Strategy, TowerReader


@dataclass(frozen=True)
class Uncached:
    """Features that a prompt brought along, and what the tower revealed when it made them."""

    encoded: Any
    readings: Sequence[TowerReading]
    input_ids: Int[Tensor, "b s"] | None  # of the first prompt that brought them
    width: int  # of the last one
    # whether that was the first one, continued by one token more than the one before it
    longer: bool = False

    def check(self, pipeline: Pipeline) -> None:
        """Raises UnsupportedGenerationError where the newest token would choose other rows.

        Other ones, that is, than the prompt's last token has chosen.
        """
        choosing: list[Strategy] = [*pipeline.of(PrefillStage), *pipeline.of(DecodeStage)]
        # an answer's words are text behind the video
        choosing += [reader for reader in pipeline.of(TowerReader) if reader.signals().text]
        if pipeline.allocator is not None:
            choosing.append(pipeline.allocator)
        if self.longer and choosing:
            raise UnsupportedGenerationError(
                "without a cache every token is generated from the whole prompt, and "
                f"{choosing[0].name} would select anew by the newest token where its method "
                "selects once per prompt or hides cached rows: generate with use_cache=True"
            )


def recall(
    before: Uncached | None, video: VideoPrompt, readings: Sequence[TowerReading]
) -> Uncached | None:
    """What is known of the features in a prompt.

    Readings are fresh, or those of the pass that brought the features first.
    """
    encoded, ids = video.encoded, video.input_ids
    if encoded is None:
        return None
    width = 0 if ids is None else ids.shape[1]
    if before is None or readings or not same(before.encoded, encoded):
        return Uncached(encoded, [*readings], ids, width)
    longer = width == before.width + 1 and _continues(before.input_ids, ids)
    return Uncached(encoded, before.readings, before.input_ids, width, longer)


def _continues(first: Int[Tensor, "b s"] | None, ids: Int[Tensor, "b t"] | None) -> bool:
    """Whether `ids` begin with those of the first prompt."""
    if ids is None or first is None or len(ids) != len(first):
        return False
    return torch.equal(ids[:, : first.shape[1]], first)
