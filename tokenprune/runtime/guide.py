"""A guide runs over the uncompressed prompt and stops as soon as it has been read.

Axes: `b` samples, `s` columns, `r` columns that are read, `h` query heads, `g` key/value heads, `e`
head width, `d` width.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenprune.adapters import VideoLLM
from tokenprune.adapters.borrowed import Lent, equal_towers
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.layout import Layout
from tokenprune.runtime.tower import TowerReading

QueriesAndKeys = list[tuple[Tensor, Tensor]]  # by layer, [b h r e] and [b g s e]


class _Enough(Exception):  # noqa: N818  a signal, not an error
    """Leaves the guide's forward pass once the last layer asked for has been read."""


@dataclass(frozen=True)
class Shown:
    """A prompt as a guide gets it.

    Args:
        layout: its rows, on the device of the answering model's prompt
        given: arguments of the guide's language model, the mask in two dimensions
        blocks: of each row the number of its picture, in families whose pictures see themselves
        shared: whether an assistant has taken over what the answering model's tower made
    """

    layout: Layout
    given: dict[str, Any]
    blocks: Int[Tensor, "b s"] | None
    shared: bool = False


class Columns:
    """One column of every sample, or some, looked up in many layers of one shape."""

    def __init__(self, columns: Int[Tensor, "b *r"]) -> None:
        self._columns = columns
        self._index: dict[Any, Tensor] = {}  # by device and heads

    def of(self, states: Float[Tensor, "b h s e"]) -> Float[Tensor, "b h r e"]:
        samples, heads, _, width = states.shape
        if (place := (states.device, heads, width)) not in self._index:
            index = self._columns.to(states.device).view(samples, 1, -1, 1)
            self._index[place] = index.expand(samples, heads, -1, width)
        return states.gather(2, self._index[place])


class Guide:
    """A model that weighs frames: an assistant, or the model that answers itself."""

    def __init__(
        self,
        model: VideoLLM,
        assistant: VideoLLM | None,
        taps: MutableMapping[nn.Module, Tap],
        tower_stage: bool = False,
    ) -> None:
        self._tower_stage = tower_stage
        self.adapter = assistant or model
        self.assists = assistant is not None
        self._model, self._taps = model, taps  # on the attention of its layers

    @cached_property
    def shares(self) -> bool:
        """Whether it is an assistant whose tower makes what the answering model's does.

        Compared once. A stage inside the latter's makes something else.
        """
        if not self.assists or self._tower_stage:
            return False
        one, other = self._model, self.adapter
        return one.tower_layers_read == other.tower_layers_read and equal_towers(
            one.tower, other.tower
        )

    def see(
        self,
        layout: Layout,
        given: dict[str, Any],
        input_ids: Int[Tensor, "b s"] | None,
        reading: TowerReading | None,
        blocks: Int[Tensor, "b s"] | None,
    ) -> Shown:
        """The guide's own view of the prompt that is `given` to the model's language model.

        An assistant's has frames that are decoded and prepared already, its words, and its tower,
        or what an equal one has made of them. `blocks` are those of the prompt's pictures.
        """
        if not self.assists:
            prompt = {name: given.get(name) for name in self.adapter.row_arguments}
            return Shown(layout, prompt, blocks)
        if input_ids is None or reading is None:
            raise UnsupportedGenerationError(
                "an assistant sees the prompt for itself: pass input_ids and raw pixels, not "
                "inputs_embeds"
            )
        # rows of the prompt are as padded, and as far from one another, for both
        adapter, device = self.adapter, self.adapter.device
        prompt = {
            name: None if given.get(name) is None else given[name].to(device)
            for name in ("attention_mask", "position_ids")
        }
        lent = None if reading.output is None else Lent(adapter.tower, reading.output)
        looking = adapter if lent is None else adapter.borrowing(lent)
        seen = {**prompt, **looking.see(input_ids, reading.given, layout.videos)}
        shared = lent is not None and lent.used
        return Shown(layout, seen, None if blocks is None else blocks.to(device), shared)

    @torch.no_grad()
    def read(
        self, layers: Sequence[int], columns: Int[Tensor, "b *r"], shown: Shown
    ) -> QueriesAndKeys:
        """Queries at `columns` and all keys of each of `layers`; no layer beyond them runs."""
        read: dict[int, tuple[Tensor, Tensor]] = {}
        final, at = max(layers), Columns(columns)

        def reader(layer: int) -> Tap:
            def tap(query: Tensor, key: Tensor, scale: float) -> None:
                read[layer] = at.of(query), key
                if layer == final:
                    raise _Enough

            return tap

        modules = [self.adapter.attention(layer) for layer in layers]
        self._taps.update(zip(modules, map(reader, layers), strict=True))
        try:
            self.adapter.language_model(**self._masked(shown), use_cache=False)
        except _Enough:
            pass
        finally:
            for module in modules:
                self._taps.pop(module, None)
        return [read[layer] for layer in layers]

    def _masked(self, shown: Shown) -> dict[str, Any]:
        """With the mask in the form that the language model takes."""
        given = shown.given
        mask = self.adapter.prompt_mask(
            given["inputs_embeds"], given["attention_mask"], shown.blocks
        )
        return {**given, "attention_mask": mask}
