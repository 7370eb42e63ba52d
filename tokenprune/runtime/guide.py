"""DyToK's seam: a guide runs over the uncompressed prompt and stops as soon as it has been read.

It shows its last query and its visual keys, in the layers that an allocator asks for.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenprune.adapters import VideoLLM
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.guards import contract
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap, rows_at
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Layout
from tokenprune.runtime.tower import TowerReading
from tokenprune.strategy import Allocator
from tokenprune.tokens import LastRow, Probe

# what a guide reads of the language model's arguments
PROMPT = ("inputs_embeds", "attention_mask", "position_ids")

QueriesAndKeys = list[tuple[Tensor, Tensor]]  # by layer, [b h e] and [b g s e]


class _Enough(Exception):  # noqa: N818  a signal, not an error
    """Leaves the guide's forward pass once the last layer asked for has been read."""


class Guide:
    """A model that weighs frames: an assistant, or the model that answers itself."""

    def __init__(
        self,
        model: VideoLLM,
        assistant: VideoLLM | None,
        taps: MutableMapping[nn.Module, Tap],
    ) -> None:
        self.adapter = assistant or model
        self.assists = assistant is not None
        self._taps = taps  # on the attention of its layers

    def see(
        self,
        given: dict[str, Any],
        input_ids: Int[Tensor, "b s"] | None,
        reading: TowerReading | None,
        frames: int,
        videos: int,
    ) -> dict[str, Any]:
        """The guide's own view of the prompt that is `given` to the model's language model.

        An assistant's has frames that are decoded and prepared already, its tower, its words.
        """
        if not self.assists:
            return {name: given.get(name) for name in PROMPT}
        if input_ids is None or reading is None:
            raise UnsupportedGenerationError(
                "an assistant sees the prompt for itself: pass input_ids and raw pixels, not "
                "inputs_embeds"
            )
        device, dtype = self.adapter.device, self.adapter.model.dtype
        pixels = reading.pixels.unflatten(0, (-1, frames)).to(device, dtype)
        pixels = pixels.repeat_interleave(videos // len(pixels), dim=0)  # beams share a video
        inputs = {
            name: None if given.get(name) is None else given[name].to(device) for name in PROMPT
        }
        return {**inputs, "inputs_embeds": self.adapter.embed(input_ids.to(device), pixels)}

    @torch.no_grad()
    def read(
        self, layers: Sequence[int], last: Int[Tensor, "b"], inputs: dict[str, Any]
    ) -> QueriesAndKeys:
        """Queries at columns `last` and all keys of each of `layers`; no layer beyond them runs."""
        read: dict[int, tuple[Tensor, Tensor]] = {}
        final = max(layers)

        def reader(layer: int) -> Tap:
            def tap(query: Tensor, key: Tensor, scale: float) -> None:
                read[layer] = rows_at(query, last), key
                if layer == final:
                    raise _Enough

            return tap

        modules = [self.adapter.attention(layer) for layer in layers]
        self._taps.update(zip(modules, map(reader, layers), strict=True))
        try:
            self.adapter.language_model(**inputs, use_cache=False)
        except _Enough:
            pass
        finally:
            for module in modules:
                self._taps.pop(module, None)
        return [read[layer] for layer in layers]


def weigh(
    allocator: Allocator,
    guide: Guide,
    layout: Layout,
    videos: Sequence[int],
    inputs: Callable[[], dict[str, Any]],
    clock: Clock,
) -> tuple[dict[int, Float[Tensor, "f"]], int]:
    """Weights of the frames by sample, and how many layers of the guide ran for them.

    One pass of the guide serves all samples; nothing runs until the allocator asks for layers.
    """
    read: dict[tuple[int, ...], QueriesAndKeys] = {}

    def once(layers: tuple[int, ...]) -> QueriesAndKeys:
        if layers not in read:
            with clock.inner("probe"), autocast():
                read[layers] = guide.read(layers, layout.last, inputs())
        return read[layers]

    given: dict[int, Any] = {}
    with full_precision() as autocast:
        for sample in videos:
            probe = PromptProbe(guide.adapter.depth, layout, sample, once)
            given[sample] = contract.ask(allocator, "weigh", probe, sample=sample)
    weights = {
        sample: contract.weights(allocator, layout.frames, weight)
        for sample, weight in given.items()
    }
    return weights, max((max(layers) + 1 for layers in read), default=0)


class PromptProbe(Probe):
    """One sample's view of a guide that reads the whole batch once."""

    def __init__(
        self,
        depth: int,
        layout: Layout,
        sample: int,
        read: Callable[[tuple[int, ...]], QueriesAndKeys],
    ) -> None:
        self.depth = depth
        self.frames = layout.frames
        self._visual: Bool[Tensor, "s"] = layout.visual[sample]
        self.frame = layout.frame[sample][self._visual]
        self._sample, self._read = sample, read

    def last_row(self, layers: Sequence[int]) -> LastRow:
        read = self._read(tuple(layers))
        columns = self._visual.nonzero().squeeze(-1).to(read[0][1].device)
        queries: Float[Tensor, "l h e"] = torch.stack([query[self._sample] for query, _ in read])
        keys = torch.stack([key[self._sample].index_select(1, columns) for _, key in read])
        return LastRow(queries.to(self.frame.device), keys.to(self.frame.device))
