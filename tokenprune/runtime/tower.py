"""What the vision tower reveals besides its features: keys and saliency, pooled like the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenprune.adapters import VideoLLM
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime import attention
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Layout
from tokenprune.strategy import Pipeline
from tokenprune.tokens import Signals, VisualTokens


@dataclass
class TowerReading:
    """One call of the tower on `i` images; `c` cells after pooling."""

    pixels: Float[Tensor, "i ch h w"]
    saliency: Float[Tensor, "i c"] | None = None
    keys: Float[Tensor, "i c k"] | None = None


def tower_tap(
    adapter: VideoLLM, signals: Signals, reading: TowerReading, clock: Clock
) -> attention.Tap:
    """Fills `reading` from the attention of the layer whose output the projector takes."""

    def tap(query: Float[Tensor, "i h p e"], key: Float[Tensor, "i h p e"], scale: float) -> None:
        with clock.inner("strategy"):
            read(query, key, scale)

    def read(query: Float[Tensor, "i h p e"], key: Float[Tensor, "i h p e"], scale: float) -> None:
        if signals.saliency is not None:
            if signals.saliency == "received":
                weight = attention.received(query, key, scale)
            else:
                weight = attention.mean_query(query, key)
            pooled = adapter.pool(weight.unsqueeze(-1)).squeeze(-1)
            # pooling averages, but attention is a mass: a cell stands for all the patches it covers
            reading.saliency = pooled * (weight.shape[1] / pooled.shape[1])
        if signals.keys is not None:
            whole = signals.keys == "full"
            flat = attention.side_by_side(key).float() if whole else key.float().mean(1)
            reading.keys = adapter.pool(flat)

    return tap


def matching(readings: Sequence[TowerReading], videos: int, frames: int) -> TowerReading | None:
    """The tower's last call on as many whole videos as there are.

    Or on a whole fraction of them: beams share one.
    """
    fitting = [
        reading
        for reading in readings
        if len(reading.pixels) % frames == 0 and videos * frames % len(reading.pixels) == 0
    ]
    return fitting[-1] if fitting else None


def visual_tokens(
    embeds: Float[Tensor, "b s d"],
    layout: Layout,
    videos: list[int],
    number: int,
    reading: TowerReading | None,
    pipeline: Pipeline,
) -> VisualTokens:
    """The `number`-th video of the batch as its vision stages see it."""
    sample = videos[number]
    visual = layout.visual[sample]
    keys = saliency = None
    if any(pipeline.signals):
        if reading is None:
            raise UnsupportedGenerationError(
                f"{pipeline} reads the vision tower, which did not run inside the block: pass raw "
                "pixels to generate"
            )
        share = len(videos) * layout.frames // len(reading.pixels)
        images = slice(number // share * layout.frames, (number // share + 1) * layout.frames)
        keys = None if reading.keys is None else reading.keys[images].flatten(0, 1)
        saliency = None if reading.saliency is None else reading.saliency[images].flatten()
    return VisualTokens(
        features=embeds[sample, visual],
        keys=keys,
        saliency=saliency,
        frame=layout.frame[sample, visual],
        slot=layout.slot[sample, visual],
        frames=layout.frames,
        cells=layout.cells,
    )
