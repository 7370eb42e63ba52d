"""A video prompt on its way through the language model: what stages take out is gone for good.

Axes: `b` samples, `s` columns of a layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune.adapters import VideoLLM
from tokenprune.guards import contract, masks
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap, last_row, rows_at
from tokenprune.runtime.compress import Weights
from tokenprune.runtime.guide import Guide
from tokenprune.runtime.layout import Layout, take
from tokenprune.runtime.phase import LayerArguments, Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.report import StageReport
from tokenprune.strategy import Pipeline, PrefillStage
from tokenprune.tokens import TEXT, SequenceView


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
        self._pruners = by_layer(self._pipeline)
        self._rows: dict[int, Float[Tensor, "b s"]] = {}  # last row's attention, by layer
        # of the last layout, in the one that entered; None while they are one
        self._columns: Int[Tensor, "b m"] | None = None
        # arguments of the layers from here up, by the window of their attention
        self._narrowed: dict[int | None, dict[str, Any]] = {}
        # what goes to the rows of the last layout before a layer: the model would add it to others
        self._added: dict[int, Float[Tensor, "b m d"]] = {}

    def taps(self) -> dict[nn.Module, Tap]:
        """Taps that record the last row's attention in the layers below those that drop rows."""
        below = [layer - 1 for layer in self._pruners]
        return {self._adapter.attention(layer): self._reader(layer) for layer in below}

    def _reader(self, layer: int) -> Tap:
        def tap(query: Tensor, key: Tensor, scale: float) -> None:
            with self._pruning():
                number = self.prompt.at(layer)
                layout, mask = self.prompt.layouts[number], self.prompt.mask(number)
                row = last_row(rows_at(query, layout.last), key, scale, mask)
                self._rows[layer] = row.to(layout.valid.device)

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
        """Begins a layout at `layer`; returns the hidden states that are left."""
        with self._pruning():
            before = self.prompt.layouts[-1]
            kept = self._survivors(layer, stages, before)
            after, columns = before.keep(kept)
            self.prompt.begin_layout(layer, after, columns)
        added = self._added or self._adapter.withheld(self._given, layer)
        self._added = {later: take(part, columns) for later, part in added.items()}
        self._blocks = kept_blocks(self._blocks, columns, after)
        last = self._columns
        self._columns = columns if last is None else last.gather(1, columns)
        self._narrowed.clear()
        return take(hidden, columns)

    def _arguments(
        self, layer: int, given: dict[str, Any], columns: Int[Tensor, "b m"]
    ) -> dict[str, Any]:
        """What `layer` and those like it get in place of the language model's arguments."""
        hidden, valid = given["hidden_states"], self.prompt.layouts[-1].mask
        narrowed = {
            "attention_mask": self._adapter.layer_mask(
                layer, hidden, valid, self.cache, self._blocks
            ),
            "position_embeddings": tuple(
                take(part, columns) for part in given["position_embeddings"]
            ),
        }
        if given.get("position_ids") is not None:
            narrowed["position_ids"] = take(given["position_ids"], columns)
        return narrowed

    def _survivors(
        self, layer: int, stages: Sequence[PrefillStage], before: Layout
    ) -> Bool[Tensor, "b s"]:
        """Runs the stages of a layer one after another, sample by sample, without padding."""
        attention, kept = self._rows[layer - 1], before.valid.clone()
        done: dict[int, list[list[StageReport]]] = {}
        for unit in self.prompt.units:
            reports: list[StageReport] = []
            for stage in stages:
                here = kept[unit.sample].nonzero().squeeze(-1)
                frame = self.prompt.frame(unit, len(self.prompt.layouts) - 1)
                view = SequenceView(
                    frame[here],
                    before.row[unit.sample, here],
                    attention[unit.sample, here],
                    unit.video.frames,
                )
                budget = self._pipeline.budget(stage, view, self._weights.get(unit), unit.sample)
                survives = contract.ask(stage, "prune", view, budget, sample=unit.sample)
                counts = masks.survivors(stage, view, budget, survives)
                reports.append(StageReport(stage.name, layer, *counts))
                kept[unit.sample, here] = survives
            done.setdefault(unit.sample, []).append(reports)
        for sample, parts in done.items():
            self.prompt.report[sample].note(parts)
        return kept

    def finish(self) -> PromptState:
        """Writes down what every layer saw; a promised reduction that did not happen raises."""
        depth = self._adapter.depth
        if self._added:
            raise RuntimeError(f"what layers {[*self._added]} were to see was added nowhere")
        for sample, report in enumerate(self.prompt.report.samples):
            if report is not None:
                report.layers = self.prompt.visual_rows(sample, depth)
                report.slots = self.prompt.slots(sample)
        for unit, weights in self._weights.items():
            report = self.prompt.report[unit.sample]
            report.frame_weights = [*(report.frame_weights or []), *weights.tolist()]
        if self.cache is not None:
            self._check_cached(self.cache)
        return self.prompt

    def _check_cached(self, cache: Cache) -> None:
        """From here on the layers report the columns that they have seen."""
        filled: list[Any] = cache.layers
        numbers = [self.prompt.at(layer) for layer in range(len(filled))]
        cached = [layer.rows for layer in filled]
        left = [self.prompt.layouts[number].valid.shape[1] for number in numbers]
        if cached != left:
            raise RuntimeError(
                f"the layers cached {cached} rows where {self._pipeline} leaves {left}"
            )
        for layer, number in zip(filled, numbers, strict=True):
            layer.gone = self.prompt.gone(number)


def kept_blocks(
    blocks: Int[Tensor, "b s"] | None, columns: Int[Tensor, "b m"], layout: Layout
) -> Int[Tensor, "b m"] | None:
    """Pictures of the rows that are left, as they were numbered before."""
    if blocks is None:
        return None
    return blocks.gather(1, columns).masked_fill(~layout.valid, TEXT)


def by_layer(pipeline: Pipeline) -> dict[int, list[PrefillStage]]:
    """The prefill stages, by the layer before which they drop rows."""
    stages: dict[int, list[PrefillStage]] = {}
    for stage in pipeline.of(PrefillStage):
        stages.setdefault(stage.layer, []).append(stage)
    return stages
