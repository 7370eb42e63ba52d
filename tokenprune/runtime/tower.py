"""What the vision tower reveals besides its features: keys and saliency, pooled like the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.rows import sources, spans
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime import attention
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.table import Array, send
from tokenprune.runtime.tower_call import TowerCall
from tokenprune.sequence import BESIDE, TEXT
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
    projected: list[Float[Tensor, "n c"]] = field(default_factory=list)  # what the projector took
    read: int = 0  # frames so far
    inside: TowerCall | None = None  # what a stage inside the tower did
    output: Any = None  # of the tower, where an assistant's equals it and need not run

    @property
    def tokens(self) -> int:
        return sum(video.tokens for video in self.videos)

    def note_projected(self, adapter: VideoLLM, signals: Signals, states: Tensor) -> None:
        """Keeps what the projector is about to take of all frames of this call."""
        whole = signals.grid is not None
        every = [states] if whole else adapter.projected_cells(states, self.videos)
        for maps in every:
            self.projected.append(maps.flatten(0, 1))

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
            weight = attended(signals.saliency, query, key, scale, first).unsqueeze(-1)
            pooled = pool(weight, video)
            # pooling averages, but attention is a mass: a cell stands for all the patches it covers
            mass = pooled * (weight.shape[1] / pooled.shape[1])
            reading.saliency.append(mass.flatten())
        if signals.keys is not None:
            whole = signals.keys == "full"
            own = key[:, :, first:] if first else key
            flat = attention.side_by_side(own).float() if whole else own.float().mean(1)
            reading.keys.append(pool(flat, video).flatten(0, 1))

    def pool(maps: Float[Tensor, "i p d"], video: Video) -> Float[Tensor, "i c d"]:
        return adapter.to_cells(maps, video) if signals.grid is None else maps

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
    patches = query[:, :, first:] if first else query
    if kind == "cls":
        weights = attention.last_row(query[:, :, 0], key, scale, None)
    elif kind == "received":
        weights = attention.received(patches, key, scale)
    elif kind == "pseudo_cls":
        weights = attention.mean_query_of_heads(patches, key, scale)
    else:
        weights = attention.mean_query(patches, key)
    return weights[:, first:] if first else weights


def matching(
    readings: Sequence[TowerReading], layout: Layout, images: bool = False
) -> TowerReading | None:
    """The tower's last call on as many tokens as the videos of a prompt have.

    Or on a whole fraction of them: beams share one. `images` instead: the first call on those.
    """
    tokens = sum(unit.video.tokens for unit in layout.units if unit.image is images)
    fitting = [reading for reading in readings if tokens % max(1, reading.tokens) == 0]
    if not tokens or not fitting:
        return None
    return fitting[0 if images else -1]


class Sight:
    """The videos of a prompt as its vision stages see them."""

    def __init__(
        self,
        embeds: Float[Tensor, "b s d"],
        layout: Layout,
        readings: Sequence[TowerReading],
        pipeline: Pipeline,
        project: Callable[[Tensor], Tensor],
    ) -> None:
        self._embeds, self._layout, self.project = embeds, layout, project
        self._signals = pipeline.signals
        self._grids: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        # of each video, its part of a reading
        self._parts: dict[str, dict[Unit, Tensor]] = {"keys": {}, "saliency": {}, "tower": {}}
        if not self._signals.sees:
            return
        for images in sorted({unit.image for unit in layout.units}):
            reading = matching(readings, layout, images)
            if reading is None:
                raise UnsupportedGenerationError(
                    f"{pipeline} reads the vision tower, which did not run inside the block: pass "
                    "raw pixels to generate"
                )
            self._share(reading, _parts(layout, images, reading.tokens))

    def _share(self, reading: TowerReading, parts: Mapping[Unit, slice]) -> None:
        read = {"keys": reading.keys, "saliency": reading.saliency, "tower": reading.projected}
        for name, pieces in read.items():
            if (whole := _joined(pieces)) is None:
                continue
            # patches of a video are as many times its tokens in each of them
            patches, tokens = len(whole), reading.tokens
            for unit, part in parts.items():
                start, stop = part.start * patches // tokens, part.stop * patches // tokens
                alone = stop - start == patches  # in the whole reading
                self._parts[name][unit] = whole if alone else whole[start:stop]

    def tokens(self, unit: Unit) -> VisualTokens:
        """What the stages at the input see of a video."""
        return self._cells(unit) if self._signals.grid is None else self._patches(unit)

    def _patches(self, unit: Unit) -> VisualTokens:
        """The video before projector and pooling."""
        features, frames = self._parts["tower"][unit], unit.video.frames
        patches = len(features) // frames
        frame, slot = self._grid(frames, patches)
        return VisualTokens(
            features=features,
            keys=self._parts["keys"].get(unit),
            saliency=self._parts["saliency"].get(unit),
            frame=frame,
            slot=slot,
            frames=frames,
            cells=patches,
            room=unit.video.cells,
        )

    def _cells(self, unit: Unit) -> VisualTokens:
        columns, video = self._layout.own(unit), unit.video
        frame, slot = self._addresses(unit, columns)
        return VisualTokens(
            features=self._rows(unit.sample, columns),
            keys=self._parts["keys"].get(unit),
            saliency=self._parts["saliency"].get(unit),
            tower=self._parts["tower"].get(unit),
            text=None if self._signals.text is None else self._text(unit, columns),
            frame=frame,
            slot=slot,
            frames=video.frames,
            cells=video.cells,
        )

    def _addresses(
        self, unit: Unit, columns: Int[Array, "n"]
    ) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
        """Frame and slot of the tokens in a video's rows, which hold cell after cell."""
        every = np.arange(unit.video.tokens)
        parts = (self._layout.read(part)[unit.sample, columns] for part in ("frame", "slot"))
        frame, slot = next(parts) - unit.first, next(parts)
        if np.array_equal(frame * unit.video.cells + slot, every):
            return self._grid(unit.video.frames, unit.video.cells)
        frame, slot = send(np.stack([frame, slot]), self._embeds.device).unbind()
        return frame, slot

    def _grid(self, frames: int, cells: int) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
        """Frame and slot of all tokens of a video, made once for all videos of that size."""
        if (frames, cells) not in self._grids:
            numbers = np.arange(frames * cells)
            both = send(np.stack([numbers // cells, numbers % cells]), self._embeds.device)
            frame, slot = both.unbind()
            hosted.note_counts(frame, [cells] * frames)
            self._grids[frames, cells] = frame, hosted.note_grid(slot)
        return self._grids[frames, cells]

    def _rows(self, sample: int, columns: Int[Array, "n"]) -> Float[Tensor, "n d"]:
        """What a sample's columns hold; a view where they stand side by side."""
        return attention.at(self._embeds[sample], columns)

    def _text(self, unit: Unit, columns: Int[Array, "n"]) -> Float[Tensor, "t d"]:
        """Embeddings of the text behind a video; its newlines, and other videos, are none."""
        layout, sample = self._layout, unit.sample
        words = layout.real[sample] & (layout.read("frame")[sample] == TEXT)
        words &= layout.read("slot")[sample] != BESIDE
        words[: columns.max() + 1] = False
        return self._rows(sample, np.flatnonzero(words))


def _joined(parts: Sequence[Tensor]) -> Tensor | None:
    """One behind another, without a copy where there is one only."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([*parts]) if parts else None


def _parts(layout: Layout, images: bool, shown: int) -> dict[Unit, slice]:
    """Where each video, or each image, is in a reading that has `shown` tokens."""
    units = [unit for unit in layout.units if unit.image is images]
    held: list[list[Video]] = [[] for _ in layout.videos]
    for unit in units:
        held[unit.sample].append(unit.video)
    parts = spans(sources(held, shown), [unit.video.tokens for unit in units])
    return dict(zip(units, parts, strict=True))
