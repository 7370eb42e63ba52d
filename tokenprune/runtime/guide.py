"""DyToK's seam: a guide runs over the uncompressed prompt and stops as soon as it has been read.

It shows queries of its text and its visual keys, in the layers that an allocator asks for.

Axes: `b` samples, `s` columns, `r` columns that are read, `f` frames, `l` layers, `n` visual
tokens, `h` query heads, `g` key/value heads, `e` head width, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenprune.adapters import VideoLLM
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.guards import contract
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap, columns_at
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.tower import TowerReading
from tokenprune.strategy import Allocator
from tokenprune.tokens import LastRow, Probe, QuestionRows, Video

QueriesAndKeys = list[tuple[Tensor, Tensor]]  # by layer, [b h r e] and [b g s e]
Wanted = tuple[tuple[int, ...], bool]  # layers, and whether of the whole question


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
        videos: Sequence[Sequence[Video]],
        blocks: Int[Tensor, "b s"] | None,
    ) -> dict[str, Any]:
        """The guide's own view of the prompt that is `given` to the model's language model.

        An assistant's has frames that are decoded and prepared already, its tower, its words;
        `videos` come by sample, `blocks` are those of the prompt's pictures.
        """
        if not self.assists:
            prompt = {name: given.get(name) for name in self.adapter.row_arguments}
            return self._masked(prompt, blocks)
        if input_ids is None or reading is None:
            raise UnsupportedGenerationError(
                "an assistant sees the prompt for itself: pass input_ids and raw pixels, not "
                "inputs_embeds"
            )
        # rows of the prompt are as padded, and as far from one another, for both
        device = self.adapter.device
        prompt = {
            name: None if given.get(name) is None else given[name].to(device)
            for name in ("attention_mask", "position_ids")
        }
        seen = {**prompt, **self.adapter.see(input_ids, reading.given, videos)}
        return self._masked(seen, None if blocks is None else blocks.to(device))

    def _masked(self, given: dict[str, Any], blocks: Int[Tensor, "b s"] | None) -> dict[str, Any]:
        mask = self.adapter.prompt_mask(given["inputs_embeds"], given["attention_mask"], blocks)
        return {**given, "attention_mask": mask}

    @torch.no_grad()
    def read(
        self, layers: Sequence[int], columns: Int[Tensor, "b r"], inputs: dict[str, Any]
    ) -> QueriesAndKeys:
        """Queries at `columns` and all keys of each of `layers`; no layer beyond them runs."""
        read: dict[int, tuple[Tensor, Tensor]] = {}
        final = max(layers)

        def reader(layer: int) -> Tap:
            def tap(query: Tensor, key: Tensor, scale: float) -> None:
                read[layer] = columns_at(query, columns), key
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
    inputs: Callable[[], dict[str, Any]],
    clock: Clock,
) -> tuple[dict[Unit, Float[Tensor, "f"]], int]:
    """Weights of the frames of each video, and how many layers of the guide ran for them.

    One pass of the guide serves all samples; nothing runs until the allocator asks for layers.
    """
    prepared = cache(inputs)  # the guide's own prompt
    read: dict[Wanted, QueriesAndKeys] = {}

    def once(layers: tuple[int, ...], question: bool) -> QueriesAndKeys:
        if (wanted := (layers, question)) not in read:
            columns = layout.question if question else layout.last.unsqueeze(-1)
            with clock.inner("probe"), autocast():
                read[wanted] = guide.read(layers, columns, prepared())
        return read[wanted]

    def entered() -> Float[Tensor, "b s d"]:
        with clock.inner("probe"), autocast():
            return prepared()["inputs_embeds"]

    given: dict[Unit, Any] = {}
    with full_precision() as autocast:
        for unit in layout.units:
            probe = PromptProbe(guide.adapter, layout, unit, once, entered)
            given[unit] = contract.ask(allocator, "weigh", probe, sample=unit.sample)
    weights = {
        unit: contract.weights(allocator, unit.video.frames, weight)
        for unit, weight in given.items()
    }
    return weights, max((max(layers) + 1 for layers, _ in read), default=0)


class PromptProbe(Probe):
    """One video's view of a guide that reads the whole batch once."""

    def __init__(
        self,
        guide: VideoLLM,
        layout: Layout,
        unit: Unit,
        read: Callable[[tuple[int, ...], bool], QueriesAndKeys],
        entered: Callable[[], Float[Tensor, "b s d"]],
    ) -> None:
        self.depth, self._guide = guide.depth, guide
        self.frames = unit.video.frames
        self._columns = layout.columns(unit)
        self.frame = layout.frame[unit.sample].index_select(0, self._columns) - unit.first
        self._layout, self._sample = layout, unit.sample
        self._read, self._entered = read, entered

    def last_row(self, layers: Sequence[int]) -> LastRow:
        """Of those of `layers` that see the whole prompt; of all of them where none does."""
        rows = self._rows(layers, False)
        return LastRow(rows.queries[:, 0], rows.keys)

    def question(self, layers: Sequence[int]) -> QuestionRows:
        """Of those of `layers` that see the whole prompt; of all of them where none does."""
        rows, asked = self._rows(layers, True), int(self._layout.behind[self._sample].sum())
        return QuestionRows(rows.queries[:, :asked], rows.keys)

    @property
    def features(self) -> Float[Tensor, "n d"]:
        entered = self._entered()[self._sample].detach()
        return entered.index_select(0, self._columns.to(entered.device)).to(self.frame.device)

    def _rows(self, layers: Sequence[int], question: bool) -> QuestionRows:
        whole = tuple(layer for layer in layers if self._guide.window(layer) is None)
        read = self._read(whole or tuple(layers), question)
        columns = self._columns.to(read[0][1].device)
        queries = torch.stack([query[self._sample].transpose(0, 1) for query, _ in read])
        keys = torch.stack([key[self._sample].index_select(1, columns) for _, key in read])
        return QuestionRows(queries.to(self.frame.device), keys.to(self.frame.device))
