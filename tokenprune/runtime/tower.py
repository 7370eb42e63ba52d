"""What the vision tower reveals besides its features: keys and saliency, pooled like the tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenprune.adapters import VideoLLM
from tokenprune.adapters.rows import sources
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime import attention
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.strategy import Pipeline
from tokenprune.tokens import Saliency, Signals, Video, VisualTokens


@dataclass
class TowerReading:
    """One call of the tower: what it shows, and what its attention said of `n` cells, in order."""

    given: Mapping[str, Any]  # the call's arguments by name
    videos: tuple[Video, ...]
    # of as many frames as the attention had in one call: all of them, or one after another
    saliency: list[Float[Tensor, "n"]] = field(default_factory=list)
    keys: list[Float[Tensor, "n k"]] = field(default_factory=list)
    read: int = 0  # frames so far

    @property
    def tokens(self) -> int:
        return sum(video.tokens for video in self.videos)

    def next(self, frames: int) -> Video:
        """The video that the next `frames` belong to."""
        first, self.read = self.read, self.read + frames
        for video in self.videos:
            if first < video.frames:
                return video
            first -= video.frames
        raise RuntimeError(f"the tower attends to more than its {self.read - frames} frames")


def tower_tap(
    adapter: VideoLLM, signals: Signals, reading: TowerReading, clock: Clock
) -> attention.Tap:
    """Fills `reading` from the attention of the layer whose output the projector takes."""
    first = int(adapter.cls)  # of the patches

    def tap(query: Float[Tensor, "i h p e"], key: Float[Tensor, "i h p e"], scale: float) -> None:
        with clock.inner("strategy"):
            read(query, key, scale)

    def read(query: Float[Tensor, "i h p e"], key: Float[Tensor, "i h p e"], scale: float) -> None:
        video = reading.next(len(query))
        if signals.saliency is not None:
            weight = attended(signals.saliency, query, key, scale, first)
            pooled = adapter.to_cells(weight.unsqueeze(-1), video).squeeze(-1)
            # pooling averages, but attention is a mass: a cell stands for all the patches it covers
            mass = pooled * (weight.shape[1] / pooled.shape[1])
            reading.saliency.append(mass.flatten())
        if signals.keys is not None:
            whole = signals.keys == "full"
            own = key[:, :, first:]
            flat = attention.side_by_side(own).float() if whole else own.float().mean(1)
            reading.keys.append(adapter.to_cells(flat, video).flatten(0, 1))

    return tap


def attended(
    kind: Saliency,
    query: Float[Tensor, "i h s e"],
    key: Float[Tensor, "i h s e"],
    scale: float,
    first: int,
) -> Float[Tensor, "i p"]:
    """The saliency of each patch, which begin at row `first`, behind CLS.

    CLS is no query of a mean. Its key takes part in every softmax, as in the tower itself; what it
    gets is dropped.
    """
    patches = query[:, :, first:]
    if kind == "cls":
        weights = attention.last_row(query[:, :, 0], key, scale, None)
    elif kind == "received":
        weights = attention.received(patches, key, scale)
    else:
        weights = attention.mean_query(patches, key)
    return weights[:, first:]


def matching(readings: Sequence[TowerReading], layout: Layout) -> TowerReading | None:
    """The tower's last call on as many tokens as a prompt has.

    Or on a whole fraction of them: beams share one.
    """
    tokens = sum(unit.video.tokens for unit in layout.units)
    fitting = [reading for reading in readings if tokens % max(1, reading.tokens) == 0]
    return fitting[-1] if fitting else None


class Sight:
    """The videos of a prompt as its vision stages see them."""

    def __init__(
        self,
        embeds: Float[Tensor, "b s d"],
        layout: Layout,
        reading: TowerReading | None,
        pipeline: Pipeline,
    ) -> None:
        self._embeds, self._layout = embeds, layout
        self._keys = self._saliency = None
        self._begins: dict[Unit, int] = {}
        if not any(pipeline.signals):
            return
        if reading is None:
            raise UnsupportedGenerationError(
                f"{pipeline} reads the vision tower, which did not run inside the block: pass raw "
                "pixels to generate"
            )
        self._keys, self._saliency = _joined(reading.keys), _joined(reading.saliency)
        self._begins = _begins(layout, reading.tokens)

    def tokens(self, unit: Unit) -> VisualTokens:
        columns, video = self._layout.columns(unit), unit.video
        keys = saliency = None
        if self._begins:
            begin = self._begins[unit]
            own = slice(begin, begin + video.tokens)
            keys = None if self._keys is None else self._keys[own]
            saliency = None if self._saliency is None else self._saliency[own]
        frame, slot = self._layout.frame[unit.sample], self._layout.slot[unit.sample]
        return VisualTokens(
            features=self._embeds[unit.sample].index_select(0, columns),
            keys=keys,
            saliency=saliency,
            frame=frame.index_select(0, columns) - unit.first,
            slot=slot.index_select(0, columns),
            frames=video.frames,
            cells=video.cells,
        )


def _joined(parts: Sequence[Tensor]) -> Tensor | None:
    """One behind another, without a copy where there is one only."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([*parts]) if parts else None


def _begins(layout: Layout, shown: int) -> dict[Unit, int]:
    """Where the tokens of each video begin in a reading that has `shown` tokens."""
    begins: list[int] = []
    numbers, at = sources(layout.videos, shown), 0
    for unit, number in zip(layout.units, numbers, strict=True):
        if number == len(begins):  # the first that shows it
            begins.append(at)
            at += unit.video.tokens
    return dict(zip(layout.units, (begins[number] for number in numbers), strict=True))
