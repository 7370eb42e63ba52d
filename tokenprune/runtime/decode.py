"""What follows a prompt: a further turn, and the steps that generate one token per sample.

Axes: `b` samples, `t` cached columns of a layout and this step's own, `s` rows of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune.adapters import VideoLLM
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.precision import full_precision
from tokenprune.runtime import compiled, fixed_cache
from tokenprune.runtime.attention import Tap, flat_mask, last_row
from tokenprune.runtime.choosing import Choice
from tokenprune.runtime.partitioned_cache import Partition, reveal
from tokenprune.runtime.phase import LayerArguments, Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.strategy import DecodeStage


class Turn(Phase):
    """Several columns behind the prompt: they see all rows that are left in each layer.

    The mask is made anew in each layer where the cached rows change.
    """

    lap = "decode"

    def __init__(self, adapter: VideoLLM, prompt: PromptState, cache: Cache) -> None:
        self.prompt, self.cache = prompt, cache
        self._adapter = adapter
        self._opening = prompt.starts[1:]  # layers at which a prefill stage has dropped rows
        self.acting = self._from(self._opening)
        self._acted = False  # whether rows change in this layer or one below
        # positions in place of the caller's from here up, where a stage has counted them anew
        self._turned: dict[int | None, dict[str, Any]] = {}
        # masks of the layers from here up, by the window of their attention
        self._masks: dict[int | None, Any] = {}

    def _from(self, layers: Sequence[int]) -> range:
        """The lowest of `layers` and all above it."""
        return range(min(layers), self._adapter.depth) if layers else range(0)

    def taps(self) -> dict[nn.Module, Tap]:
        return {}

    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        if self._changes(layer):
            self._acted = True
            self._masks.clear()
            self._turned.clear()
            self._see(layer)
        if not self._acted:
            return None
        window = self._adapter.window(layer)
        if window not in self._masks:
            self._masks[window] = self._made(layer, window, given["hidden_states"])
            self._turned[window] = self._counted(layer, given["hidden_states"])
        given = {**given, "attention_mask": self._masks[window], **self._turned[window]}
        # reentrant checkpointing passes gradients on to positional arguments only
        return (given.pop("hidden_states"),), given

    def _made(self, layer: int, window: int | None, hidden: Float[Tensor, "b q d"]) -> Any:
        """The mask of `layer`; in one with a window a decode stage hides nothing."""
        number = self.prompt.at(layer)
        seen = self._seen(number) if window is None else self.prompt.cover(number)
        return self._adapter.layer_mask(layer, hidden, seen, self.cache)

    def _counted(self, layer: int, hidden: Float[Tensor, "b q d"]) -> dict[str, Any]:
        """Positions of this pass in `layer`, if they are not the caller's."""
        positions = self.prompt.own_positions(self.prompt.at(layer), hidden.shape[1])
        if positions is None:
            return {}
        turned = self._adapter.rotation(layer, hidden, positions)
        return {"position_embeddings": turned, "position_ids": positions}

    def finish(self) -> None:
        """Nothing: reports count steps of one token, and those of a static cache by the cache."""

    def _changes(self, layer: int) -> bool:
        """Whether other rows are seen in `layer` than in the one below."""
        return layer in self._opening

    def _see(self, layer: int) -> None:
        """Decides what the cache layers from `layer` up show."""

    def _seen(self, number: int) -> Bool[Tensor, "b c"] | None:
        """What the cache layers of a layout show of the columns they have seen; None: all."""
        return self.prompt.cover(number)


class DecodeStep(Turn):
    """One generated token per sample, which sees all rows that are left in each layer.

    Where no layer needs a mask for that, it acts in none.
    """

    def __init__(
        self, adapter: VideoLLM, prompt: PromptState, cache: Cache, spared: bool = False
    ) -> None:
        super().__init__(adapter, prompt, cache)
        if self.acting and spared and prompt.plain:
            self.acting = ()

    def finish(self) -> None:
        """Counts the step: everything that the last layer has cached is visible."""
        for sample in self.prompt.report.samples:
            if sample is not None:
                sample.steps.append(sample.layers[-1])


class HidingStep(Turn):
    """One generated token per sample, from which a decode stage hides rows.

    The cache layers bring their visible rows together, and masks have their slots. A single sample
    needs none, so that the step acts only where other rows are seen than in the layer below.
    """

    def __init__(
        self,
        adapter: VideoLLM,
        prompt: PromptState,
        cache: Cache,
        stage: DecodeStage,
        spared: bool = False,
    ) -> None:
        super().__init__(adapter, prompt, cache)
        self._stage, self._layers = stage, cache.layers
        self._spared = spared and prompt.plain and len(prompt.layouts[0].videos) == 1
        changing = {*self._opening, stage.layer}
        self.acting = changing if self._spared else self._from([*changing])
        self._row: Float[Tensor, "b t"] | None = None  # attention in the layer below the stage's
        self._choice: Choice | None = None
        self._visible: Bool[Tensor, "b t"] | None = None  # from the stage's layer up
        self._shown: Bool[Tensor, "b t"] | None = None  # the same by slot; None: all from the first

    def taps(self) -> dict[nn.Module, Tap]:
        """One that records the new token's attention in the layer below the stage's."""
        below = self._stage.layer - 1

        def tap(query: Tensor, key: Tensor, scale: float) -> None:
            with self._choosing():
                number = self.prompt.at(below)
                row = last_row(query[:, :, 0], key, scale, self.prompt.mask(number))
                self._row = row.to(self.prompt.layouts[number].device)

        return {self._adapter.attention(below): tap}

    @contextmanager
    def _choosing(self) -> Iterator[None]:
        """Times what the stage takes within the model's layers, and keeps its scores in fp32."""
        with self.prompt.report.clock.inner("choosing"), full_precision():
            yield

    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        if not self._spared:
            return super().enter_layer(layer, given)
        self._see(layer)
        return None

    def seen(self, layer: int) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        frame, valid = super().seen(layer)
        if layer < self._stage.layer or self._adapter.window(layer) is not None:
            return frame, valid
        columns, shown = self.prompt.partitions[self.prompt.at(layer)].shown(valid.shape[1])
        return frame.gather(1, columns), valid.gather(1, columns) & shown

    def _changes(self, layer: int) -> bool:
        return layer == self._stage.layer or super()._changes(layer)

    def _see(self, layer: int) -> None:
        number, prompt = self.prompt.at(layer), self.prompt
        if layer == self._stage.layer:
            self._visible = self._choose(number)
        elif self._visible is None:  # below the stage's layer
            return
        else:
            self._visible = prompt.carry(self._visible, number)
            if not prompt.whole:
                self._visible = self._visible & prompt.validity(number)
        layers = [
            self._layers[above]
            for above in range(layer, prompt.until(number, self._adapter.depth))
            if self._adapter.window(above) is None
        ]
        if number not in prompt.partitions:
            prompt.partitions[number] = Partition()
        partition = prompt.partitions[number]
        self._shown = partition.show(layers, self._visible, prompt.gaps)
        if layer == self._stage.layer and self._choice is not None:
            self._choice.note(partition.changed)

    def _choose(self, number: int) -> Bool[Tensor, "b t"]:
        """Asks the stage which cached columns of layout `number` this step sees."""
        attention = self._row
        assert attention is not None
        with self._choosing():
            if self._stage.layer in self._opening:
                attention = self.prompt.carry(attention, number)
            self._choice = Choice(self._stage, self.prompt, number, attention)
            return self._choice.visible

    def _seen(self, number: int) -> Bool[Tensor, "b c"] | None:
        if self._visible is None:
            return super()._seen(number)
        return self.prompt.visible(self._shown, number)


class HeldStep(Turn):
    """One generated token per sample on a static cache, of which a decode stage shows a part."""

    def __init__(
        self, adapter: VideoLLM, prompt: PromptState, cache: Cache, columns: int = 1
    ) -> None:
        super().__init__(adapter, prompt, cache)
        if columns > 1:
            raise UnsupportedGenerationError(
                "a further turn sees what a decode stage has hidden, which a static cache keeps "
                "out of its order: use the default dynamic cache, or turn the stage off"
            )
        prompt.extend(columns, None)
        self._layers: Any = cache.layers
        self._held = self._layers[-1].held
        self.acting = range(self._held.layer, adapter.depth)

    def taps(self) -> dict[nn.Module, Tap]:
        """One that takes down the new token's attention in the layer below the stage's."""
        below = self._held.layer - 1

        def tap(query: Tensor, key: Tensor, scale: float) -> None:
            own = self._layers[below]
            seen = torch.arange(key.shape[2], device=key.device) < own.cumulative_length
            seen = seen.expand(len(key), -1) if own.real is None else seen & own.real
            self._held.note(query, key, scale, seen[:, None, None])

        return {self._adapter.attention(below): tap}

    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        given = {**given, compiled.HELD: self._held}
        changed = compiled.layer(layer, self._adapter.rotation, None, (), given)
        assert changed is not None
        given = {key: value for key, value in changed[1].items() if key != compiled.HELD}
        return (given.pop("hidden_states"),), given


def resume(
    given: dict[str, Any],
    adapter: VideoLLM,
    stage: DecodeStage | None,
    prompt: PromptState,
    cache: Cache,
    spared: bool = False,
) -> Turn:
    """The pass that is about to follow the prompt in `cache` with the arguments `given`.

    `spared`: the model attends without a mask where a single row sees everything.
    """
    columns = given["inputs_embeds"].shape[1]
    if prompt.fixed:
        fixed_cache.catch_up(cache, prompt, columns)
        spared = False  # some slots are empty
        if getattr(cache.layers[-1], "held", None) is not None:
            return HeldStep(adapter, prompt, cache, columns)
    prompt.extend(columns, flat_mask(given.get("attention_mask")))
    if columns > 1:
        reveal(cache.layers)
        for partition in prompt.partitions.values():
            partition.reveal()
        return Turn(adapter, prompt, cache)
    if stage is None:
        return DecodeStep(adapter, prompt, cache, spared)
    return HidingStep(adapter, prompt, cache, stage, spared)


def corrected(given: dict[str, Any], prompt: PromptState) -> dict[str, Any]:
    """Arguments of the language model with mask and positions for the rows that are left."""
    columns = given["inputs_embeds"].shape[1]
    positions = prompt.step_positions(given.get("position_ids"), columns)
    return {**given, "attention_mask": prompt.cover(0), "position_ids": positions}
