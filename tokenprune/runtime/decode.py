"""What follows a prompt: a further turn, and the steps that generate one token per sample.

Axes: `b` samples, `t` cached columns of a layout and this step's own, `s` rows of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune.adapters import VideoLLM
from tokenprune.guards import masks
from tokenprune.precision import full_precision
from tokenprune.runtime import fixed_cache
from tokenprune.runtime.attention import Tap, flat_mask, last_row
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.partitioned_cache import Partition, reveal
from tokenprune.runtime.phase import LayerArguments, Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.strategy import DecodeStage
from tokenprune.tokens import TEXT, SequenceView


class Turn(Phase):
    """Several columns behind the prompt: they see all rows that are left in each layer.

    The mask is made anew in each layer where the cached rows change.
    """

    lap = "decode"

    def __init__(self, adapter: VideoLLM, prompt: PromptState, cache: Cache) -> None:
        self.prompt, self.cache = prompt, cache
        self._adapter = adapter
        self._acted = False  # whether rows change in this layer or one below
        # positions in place of the caller's from here up, where a stage has counted them anew
        self._turned: dict[int | None, dict[str, Any]] = {}
        # masks of the layers from here up, by the window of their attention
        self._masks: dict[int | None, Any] = {}

    def taps(self) -> dict[nn.Module, Tap]:
        return {}

    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        if self._changes(layer):
            self._acted = True
            self._masks.clear()
            self._turned.clear()
            self._shown = self._mask(layer)
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
        shown = self._shown if window is None else self.prompt.mask(number)
        seen = self.prompt.visible(shown, number)
        return self._adapter.layer_mask(layer, hidden, seen, self.cache)

    def _counted(self, layer: int, hidden: Float[Tensor, "b q d"]) -> dict[str, Any]:
        """Positions of this pass in `layer`, if they are not the caller's."""
        positions = self.prompt.own_positions(self.prompt.at(layer), hidden.shape[1])
        if positions is None:
            return {}
        turned = self._adapter.rotation(layer, hidden, positions)
        return {"position_embeddings": turned, "position_ids": positions}

    def finish(self) -> None:
        """Nothing: reports count steps of one token."""

    def _changes(self, layer: int) -> bool:
        """Whether other rows are seen in `layer` than in the one below."""
        return self._opens(layer)

    def _opens(self, layer: int) -> bool:
        """Whether a prefill stage has dropped rows at `layer`."""
        return layer in self.prompt.starts[1:]

    def _mask(self, layer: int) -> Bool[Tensor, "b t"] | None:
        """What the cache layers from `layer` up show; None where all of it is visible."""
        return self.prompt.mask(self.prompt.at(layer))


class DecodeStep(Turn):
    """One generated token per sample, which sees all rows that are left in each layer."""

    def finish(self) -> None:
        """Counts the step: everything that the last layer has cached is visible."""
        for sample in self.prompt.report.samples:
            if sample is not None:
                sample.steps.append(sample.layers[-1])


class HidingStep(Turn):
    """One generated token per sample, from which a decode stage hides rows.

    The cache layers bring their visible rows together, and masks have their slots.
    """

    def __init__(
        self, adapter: VideoLLM, prompt: PromptState, cache: Cache, stage: DecodeStage
    ) -> None:
        super().__init__(adapter, prompt, cache)
        self._stage, self._layers = stage, cache.layers
        self._row: Float[Tensor, "b t"] | None = None  # attention in the layer below the stage's
        self._visible: Bool[Tensor, "b t"] | None = None  # from the stage's layer up

    def taps(self) -> dict[nn.Module, Tap]:
        """One that records the new token's attention in the layer below the stage's."""
        below = self._stage.layer - 1

        def tap(query: Tensor, key: Tensor, scale: float) -> None:
            with self._choosing():
                number = self.prompt.at(below)
                row = last_row(query[:, :, 0], key, scale, self.prompt.mask(number))
                self._row = row.to(self.prompt.layouts[number].valid.device)

        return {self._adapter.attention(below): tap}

    @contextmanager
    def _choosing(self) -> Iterator[None]:
        """Times what the stage takes within the model's layers, and keeps its scores in fp32."""
        with self.prompt.report.clock.inner("choosing"), full_precision():
            yield

    def seen(self, layer: int) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        frame, valid = super().seen(layer)
        if layer < self._stage.layer or self._adapter.window(layer) is not None:
            return frame, valid
        columns, shown = self.prompt.partitions[self.prompt.at(layer)].shown(valid.shape[1])
        return frame.gather(1, columns), valid.gather(1, columns) & shown

    def _changes(self, layer: int) -> bool:
        return layer == self._stage.layer or self._opens(layer)

    def _mask(self, layer: int) -> Bool[Tensor, "b t"] | None:
        number = self.prompt.at(layer)
        if layer == self._stage.layer:
            with self._choosing():
                self._visible = self._choose(layer, number)
        elif self._visible is None:  # below the stage's layer
            return self.prompt.mask(number)
        else:
            carried = self.prompt.carry(self._visible, number)
            self._visible = carried & self.prompt.validity(number)
        layers = [
            self._layers[above]
            for above in range(layer, self.prompt.until(number, self._adapter.depth))
            if self._adapter.window(above) is None
        ]
        if number not in self.prompt.partitions:
            self.prompt.partitions[number] = Partition(self._visible)
        return self.prompt.partitions[number].show(layers, self._visible)

    def _choose(self, layer: int, number: int) -> Bool[Tensor, "b t"]:
        """Asks the stage, sample by sample, which cached columns of layout `number` it sees."""
        assert self._row is not None
        attention = self.prompt.carry(self._row, number) if self._opens(layer) else self._row
        layout, padded = self.prompt.layouts[number], self.prompt.mask(number)
        words = layout.frame.new_full((self.prompt.generated.shape[1],), TEXT)
        visible = self.prompt.validity(number)  # just made, so it may be written to
        seen: dict[int, Tensor] = {}  # visual rows, by sample
        changed: dict[int, Tensor] = {}
        for unit in self.prompt.units:
            sample = unit.sample
            # without padding nothing has to be looked up, which would wait for the device
            here = slice(None) if padded is None else padded[sample]
            frame = torch.cat([self.prompt.frame(unit, number), words])
            view = _view(layout, unit, frame, here, attention[sample])
            visual = view.visual
            shown = self._ask(unit, view) | ~visual
            rows = (shown & visual).sum()
            if first := sample not in seen:
                visible[sample, here], seen[sample] = shown, rows
            else:  # another of its videos hides its own rows
                visible[sample, here] &= shown
                seen[sample] = seen[sample] + rows
            if (before := self.prompt.shown.get(unit)) is not None:
                differs = (shown[: len(before)] != before).any()
                changed[sample] = differs if first else changed[sample] | differs
            self.prompt.shown[unit] = shown
        self._note(seen, changed)
        return visible

    def _ask(self, unit: Unit, view: SequenceView) -> Bool[Tensor, "s"]:
        """The rows that the stage shows; its state is kept for the next step."""
        states, first = self.prompt.states, unit not in self.prompt.states
        if first:
            states[unit] = masks.start(self._stage, unit.sample)
        shown, states[unit] = masks.shown(self._stage, view, states[unit], first, unit.sample)
        return shown

    def _note(self, seen: Mapping[int, Tensor], changed: Mapping[int, Tensor]) -> None:
        """Counts what each sample sees, and whether it is what the step before saw."""
        reports: Any = self.prompt.report.samples  # each of these has a video
        for sample, rows in seen.items():
            reports[sample].steps.append(rows)
        for sample, flag in changed.items():
            reports[sample].changes.append(flag)


def _view(
    layout: Layout,
    unit: Unit,
    frame: Int[Tensor, "t"],
    here: slice | Bool[Tensor, "t"],
    attention: Float[Tensor, "t"],
) -> SequenceView:
    """The rows of a video's sample without padding, and the generated words behind them."""
    sample, whole, width = unit.sample, isinstance(here, slice), layout.valid.shape[1]
    rows = width if whole else int(layout.valid[sample].sum())
    later = torch.arange(rows, rows + len(frame) - width, device=frame.device)
    return SequenceView(
        frame=frame[here],
        position=torch.cat([layout.row[sample], later])[here],
        attention=attention[here],
        frames=unit.video.frames,
    )


def resume(
    given: dict[str, Any],
    adapter: VideoLLM,
    stage: DecodeStage | None,
    prompt: PromptState,
    cache: Cache,
) -> Turn:
    """The pass that is about to follow the prompt in `cache` with the arguments `given`."""
    columns = given["inputs_embeds"].shape[1]
    fixed_cache.catch_up(cache, prompt, columns)
    prompt.extend(columns, flat_mask(given.get("attention_mask")))
    if columns > 1:
        reveal(cache.layers)
        prompt.partitions.clear()
        return Turn(adapter, prompt, cache)
    if stage is None:
        return DecodeStep(adapter, prompt, cache)
    return HidingStep(adapter, prompt, cache, stage)


def corrected(given: dict[str, Any], prompt: PromptState) -> dict[str, Any]:
    """Arguments of the language model with mask and positions for the rows that are left."""
    columns = given["inputs_embeds"].shape[1]
    positions = prompt.step_positions(given.get("position_ids"), columns)
    mask = prompt.visible(prompt.mask(0), 0)
    return {**given, "attention_mask": mask, "position_ids": positions}
