"""Generation without a cache: for every token the same prompt again, one token longer, while the
tower runs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime.flight import Flight
from tokenprune.runtime.tower import TowerReading
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage


@dataclass(frozen=True)
class Again:
    """Features that a prompt brought along, and what the tower revealed when it made them."""

    encoded: Any
    readings: Sequence[TowerReading]
    input_ids: Int[Tensor, "b s"] | None  # of the first prompt that brought them
    width: int  # of the last one
    # whether that was the first one, continued by one token more than the one before it
    longer: bool = False

    def check(self, pipeline: Pipeline) -> None:
        """Raises UnsupportedGenerationError where the newest token would choose other rows than the
        prompt's last.
        """
        choosing = [
            *pipeline.of(PrefillStage),
            *pipeline.of(DecodeStage),
            *filter(None, [pipeline.allocator]),
        ]
        if self.longer and choosing:
            raise UnsupportedGenerationError(
                "without a cache every token is generated from the whole prompt, and "
                f"{choosing[0].name} would select "
                "anew by the newest token where its method selects once per prompt or hides cached "
                "rows: generate with "
                "use_cache=True"
            )


def recall(before: Again | None, flight: Flight, readings: Sequence[TowerReading]) -> Again | None:
    """What is known of the features in this prompt: fresh readings, or those of the pass that
    brought them first.
    """
    encoded, ids = flight.encoded, flight.input_ids
    if encoded is None:
        return None
    width = 0 if ids is None else ids.shape[1]
    if before is None or before.encoded is not encoded or readings:
        return Again(encoded, [*readings], ids, width)
    first, longer = before.input_ids, False
    if (
        ids is not None
        and first is not None
        and width == before.width + 1
        and len(ids) == len(first)
    ):
        longer = torch.equal(ids[:, : first.shape[1]], first)
    return Again(encoded, before.readings, first, width, longer)
