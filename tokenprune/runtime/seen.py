"""Videos that several prompts are about: the tower looks at them once.

Stages that do not depend on the question run once, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tokenprune.adapters import VideoLLM
from tokenprune.errors import PromptError
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Unit
from tokenprune.runtime.media import tensors
from tokenprune.runtime.stage_report import Done
from tokenprune.runtime.tower import TowerReading
from tokenprune.tokens import VisualTokens

Chosen = tuple[VisualTokens, list[Done]]  # what is left of a video, and what the stages did
# on a tensor of the features, so that it lives as long as they do; what holds their tensors is made
# anew where accelerate sends a call's arguments to the model's device
_NOTE = "_tokenprune_seen"


@dataclass
class Seen:
    """What is known of the videos of a prompt when it enters.

    Args:
        readings: calls of the tower
        chosen: by the videos of a prompt, what stages have left of each
        clock: laps of the tower, for the first prompt about features that were made before
        owner: whose features they are
    """

    readings: Sequence[TowerReading]
    chosen: dict[tuple[Unit, ...], dict[Unit, Chosen]] = field(default_factory=dict)
    clock: Clock | None = None
    owner: object = None

    def mark(self, features: Any) -> None:
        """Goes with `features` from here on."""
        setattr(tensors(features)[0], _NOTE, self)

    @classmethod
    def of(cls, features: Any, owner: object) -> Seen:
        """What `owner` has noted of features; nothing of those that another session made."""
        held = tensors(features)
        found = getattr(held[0], _NOTE, None) if held else None
        return found if found is not None and found.owner is owner else cls(())

    def behind(self, readings: Sequence[TowerReading]) -> Seen:
        """With earlier calls of the tower, those on images."""
        return Seen([*readings, *self.readings], self.chosen)

    def known(self, units: Sequence[Unit]) -> dict[Unit, Chosen]:
        """What was left of these videos before; filled by whoever runs stages on them.

        The features are of all videos of a prompt, so a prompt that shares them out among its
        samples otherwise knows nothing.
        """
        return self.chosen.setdefault(tuple(units), {})

    def lap(self) -> Clock | None:
        """The tower's laps, once."""
        clock, self.clock = self.clock, None
        return clock


@torch.no_grad()
def encoded(adapter: VideoLLM, media: Mapping[str, Any]) -> Any:
    """What the tower makes of a call's videos, as `generate` would have it made. PromptError."""
    encoder = getattr(adapter.body, f"get_{adapter.modality}_features")
    taken = inspect.signature(encoder).parameters
    given = {name: part for name, part in media.items() if name in taken}
    if not adapter.brings(given):
        raise PromptError(
            f"there are no videos to encode in {', '.join(sorted(media)) or 'nothing'}: pass what "
            "the processor made of them, pixel_values_videos for example"
        )
    return encoder(**given, return_dict=True)
