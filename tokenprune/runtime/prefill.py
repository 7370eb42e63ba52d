"""A video prompt on its way through the language model: what stages take out is gone for good.

Axes: `b` samples, `s` columns of a layout, `m` those of the next, `p` rows of a sample, `d` LLM
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune import compat, hosted
from tokenprune.adapters import VideoLLM
from tokenprune.guards import contract
from tokenprune.precision import full_precision
from tokenprune.runtime import fixed_cache, fixed_hiding
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.compress import Weights
from tokenprune.runtime.entering import kept_blocks
from tokenprune.runtime.guide import Guide
from tokenprune.runtime.held import Held
from tokenprune.runtime.phase import LayerArguments, Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.pruning import Around, Event
from tokenprune.runtime.reading import Below
from tokenprune.runtime.table import counted, only, send, take
from tokenprune.strategy import Pipeline, PrefillStage


@dataclass(frozen=True)
class Attached:
    """What is the same for all passes of a session."""

    adapter: VideoLLM
    pipeline: Pipeline
    guide: Guide


class Prefill(Phase):
    """The pass in which prefill stages drop rows before their layers."""

    lap = "prefill"

    def __init__(
        self,
        attached: Attached,
        prompt: PromptState,
        given: dict[str, Any],
        blocks: Int[Tensor, "b m"] | None,
        weights: Weights,
        cache: Cache | None,
    ) -> None:
        self.prompt, self.cache = prompt, cache
        self._given = given  # to the language model
        self._blocks = blocks  # pictures of the last layout
        self._adapter, self._pipeline = attached.adapter, attached.pipeline
        self._weights = weights
        depth = self._adapter.depth
        self._pruners = by_layer(self._pipeline, depth)
        # what is narrowed at the lowest of them stays so above it
        self.acting = range(min(self._pruners, default=depth), depth)
        self._below: dict[int, Below] = {}  # what the attention below an event was made of
        # positions of the rows of the last layout, where a stage has counted them anew
        self._positions: Int[Tensor, "b m"] | None = None
        # of the last layout, in the one that entered; None while they are one
        self._columns: Int[Tensor, "*b m"] | None = None
        # arguments of the layers from here up, by the window of their attention
        self._narrowed: dict[int | None, dict[str, Any]] = {}
        # what goes to the rows of the last layout before a layer: the model would add it to others
        self._added: dict[int, Float[Tensor, "b m d"]] = {}

    def taps(self) -> dict[nn.Module, Tap]:
        """Taps that remember queries and keys of the layers below those that drop rows."""
        below = [layer - 1 for layer in self._pruners]
        return {self._adapter.attention(layer): self._reader(layer) for layer in below}

    def _reader(self, layer: int) -> Tap:
        def tap(query: Tensor, key: Tensor, scale: float) -> None:
            number = self.prompt.at(layer)
            layout, mask = self.prompt.layouts[number], self.prompt.mask(number)
            self._below[layer] = Below(_plain(query), _plain(key), scale, layout, mask)

        return tap

    @contextmanager
    def _pruning(self) -> Iterator[None]:
        """Times what stages take within the model's own layers, and keeps their scores in fp32."""
        with self.prompt.report.clock.inner("strategy"), full_precision():
            yield

    def enter_layer(self, layer: int, given: dict[str, Any]) -> LayerArguments | None:
        if (added := self._added.pop(layer, None)) is not None:
            hidden = given["hidden_states"]
            given = {**given, "hidden_states": hidden + added.to(hidden.device, hidden.dtype)}
        if stages := self._pruners.get(layer):
            given = {**given, "hidden_states": self._prune(layer, given["hidden_states"], stages)}
        if self._columns is None:
            return None
        window = self._adapter.window(layer)
        if window not in self._narrowed:
            self._narrowed[window] = self._arguments(layer, given, self._columns)
        given = {**given, **self._narrowed[window]}
        # reentrant checkpointing passes gradients on to positional arguments only
        return (given.pop("hidden_states"),), given

    def _prune(
        self, layer: int, hidden: Float[Tensor, "b s d"], stages: Sequence[PrefillStage]
    ) -> Float[Tensor, "b m d"]:
        """Begins a layout at `layer` if rows go; returns the hidden states that are left."""
        with self._pruning():
            adapter = self._adapter
            below = self._below.pop(layer - 1)
            around = Around(below, self._inputs, adapter.norm, adapter.depth, adapter.positions)
            event = Event(self._pipeline, self.prompt, layer, hidden, around)
            event.run(stages, self._weights)
            if (change := event.change) is None:
                return event.hidden
            table = event.columns
            after = self.prompt.layouts[-1].keep(event.lengths, table)
            self.prompt.begin_layout(layer, after, table, change)
            columns = table.on(after.device)
        picked = only(columns)
        added = self._added or self._adapter.withheld(self._given, layer)
        self._added = {later: take(part, picked) for later, part in added.items()}
        self._blocks = kept_blocks(self._blocks, columns, after)
        last = self._columns
        self._columns = picked if last is None else last.gather(-1, picked)
        if change.anew:
            self._positions = send(counted(after.real), after.device)
        elif self._positions is not None:
            self._positions = take(self._positions, picked)
        self._narrowed.clear()
        return event.left(picked)

    def _inputs(self, sample: int) -> Float[Tensor, "p d"]:
        """What entered layer 0 of one sample."""
        embeds: Tensor = self._given["inputs_embeds"]
        return Held.of(self.prompt.layouts[0], sample).rows(embeds[sample])

    def _arguments(
        self, layer: int, given: dict[str, Any], columns: Int[Tensor, "*b m"]
    ) -> dict[str, Any]:
        """What `layer` and those like it get in place of the language model's arguments."""
        hidden, valid = given["hidden_states"], self.prompt.layouts[-1].mask
        mask = self._adapter.layer_mask(layer, hidden, valid, self.cache, self._blocks)
        if (positions := self._positions) is not None:
            embeddings = self._adapter.rotation(layer, hidden, positions)
            return {
                "attention_mask": mask,
                "position_embeddings": embeddings,
                "position_ids": positions,
            }
        embeddings = tuple(take(part, columns) for part in given["position_embeddings"])
        narrowed = {"attention_mask": mask, "position_embeddings": embeddings}
        if given.get("position_ids") is not None:
            narrowed["position_ids"] = take(given["position_ids"], columns)
        return narrowed

    def finish(self) -> PromptState:
        """Writes down what every layer saw; a promised reduction that did not happen raises."""
        depth = self._adapter.depth
        if self._added:
            raise RuntimeError(f"what layers {[*self._added]} were to see was added nowhere")
        for sample, report in enumerate(self.prompt.report.samples):
            if report is not None:
                report.layers = self.prompt.visual_rows(sample, depth)
                report.owe("slots", partial(self.prompt.layouts[-1].slots, sample))
        for unit, weights in self._weights.items():
            report = self.prompt.report[unit.sample]
            report.frame_weights = [*(report.frame_weights or []), *hosted.numbers(weights)]
        self.prompt.report.promises.send()
        if self.cache is not None:
            self._settle(self.cache.layers)
        fixed_cache.count(compat.given_cache(self._given), self.prompt)
        return self.prompt

    def _settle(self, filled: list[Any]) -> None:
        """Cache layers are checked, forget what they shall, and report the columns seen."""
        numbers = [self.prompt.at(layer) for layer in range(len(filled))]
        cached = [layer.rows for layer in filled]
        left = [self.prompt.layouts[number].width for number in numbers]
        if cached != left:
            raise RuntimeError(
                f"the layers cached {cached} rows where {self._pipeline} leaves {left}"
            )
        for below, columns in self.prompt.forget():
            picked = only(columns)
            for layer in below:
                filled[layer].keep(picked)
        for number, layer in enumerate(filled):
            layer.gone = self.prompt.gone(self.prompt.at(number))
        fixed_cache.settle(filled, self.prompt)
        if (stage := self._pipeline.decode_stage) is not None:
            fixed_hiding.settle(filled, self.prompt, stage)


def _plain(states: Tensor) -> Tensor:
    """Without gradients, which nobody asks a choice for."""
    return states.detach() if states.requires_grad else states


def by_layer(pipeline: Pipeline, depth: int) -> dict[int, list[PrefillStage]]:
    """The prefill stages, by the layers before which they may drop rows."""
    stages: dict[int, list[PrefillStage]] = {}
    for stage in pipeline.of(PrefillStage):
        for layer in contract.layers(stage, depth):
            stages.setdefault(layer, []).append(stage)
    return stages
