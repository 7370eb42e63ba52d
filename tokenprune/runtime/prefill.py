"""A video prompt on its way through the language model: what stages take out is gone for good.

Axes: `b` samples, `s` columns of a layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.guards import contract, masks
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap, causal_mask, flat_mask, last_row, rows_at
from tokenprune.runtime.cache import CompressedLayer, compressed_cache
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.compress import Weights, compress
from tokenprune.runtime.guide import Guide, weigh
from tokenprune.runtime.layout import Layout, prompt_layout, take
from tokenprune.runtime.media import VideoPrompt
from tokenprune.runtime.partitioned_cache import PartitionedLayer
from tokenprune.runtime.phase import LayerArguments, Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.report import Report, SampleReport, StageReport
from tokenprune.runtime.tower import TowerReading, matching
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage, VisionStage
from tokenprune.tokens import SequenceView


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
        self, attached: Attached, prompt: PromptState, weights: Weights, cache: Cache | None
    ) -> None:
        self.prompt, self.cache = prompt, cache
        self._adapter, self._pipeline = attached.adapter, attached.pipeline
        self._weights = weights
        self._pruners = by_layer(self._pipeline)
        self._rows: dict[int, Float[Tensor, "b s"]] = {}  # last row's attention, by layer
        self._narrowed: dict[str, Any] = {}  # arguments of the layers from here up

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
        given = {**given, **self._narrowed}
        if stages := self._pruners.get(layer):
            given = self._prune(layer, given, stages)
        if not self._narrowed:
            return None
        # reentrant checkpointing passes gradients on to positional arguments only
        return (given.pop("hidden_states"),), given

    def _prune(
        self, layer: int, given: dict[str, Any], stages: Sequence[PrefillStage]
    ) -> dict[str, Any]:
        with self._pruning():
            before = self.prompt.layouts[-1]
            kept = self._survivors(layer, stages, before)
            after, columns = before.keep(kept)
            self.prompt.begin_layout(layer, after, columns)
        hidden = take(given["hidden_states"], columns)
        rotations = tuple(take(part, columns) for part in given["position_embeddings"])
        mask = causal_mask(self._adapter.text_config, hidden, after.mask, self.cache, layer)
        self._narrowed = {"attention_mask": mask, "position_embeddings": rotations}
        if given.get("position_ids") is not None:
            self._narrowed["position_ids"] = take(given["position_ids"], columns)
        return {**given, **self._narrowed, "hidden_states": hidden}

    def _survivors(
        self, layer: int, stages: Sequence[PrefillStage], before: Layout
    ) -> Bool[Tensor, "b s"]:
        """Runs the stages of a layer one after another, sample by sample, without padding."""
        attention, kept = self._rows[layer - 1], before.valid.clone()
        for stage in stages:
            for sample in self.prompt.videos:
                here = kept[sample].nonzero().squeeze(-1)
                view = SequenceView(
                    before.frame[sample, here],
                    before.row[sample, here],
                    attention[sample, here],
                    before.frames,
                )
                budget = self._pipeline.budget(stage, view, self._weights.get(sample), sample)
                survives = contract.ask(stage, "prune", view, budget, sample=sample)
                counts = masks.survivors(stage, view, budget, survives)
                self.prompt.report[sample].stages.append(StageReport(stage.name, layer, *counts))
                kept[sample, here] = survives
        return kept

    def finish(self) -> PromptState:
        """Writes down what every layer saw; a promised reduction that did not happen raises."""
        depth = self._adapter.depth
        for sample in self.prompt.videos:
            report, weights = self.prompt.report[sample], self._weights.get(sample)
            report.layers = self.prompt.visual_rows(sample, depth)
            report.slots = self.prompt.slots(sample)
            report.frame_weights = None if weights is None else weights.tolist()
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


def by_layer(pipeline: Pipeline) -> dict[int, list[PrefillStage]]:
    """The prefill stages, by the layer before which they drop rows."""
    stages: dict[int, list[PrefillStage]] = {}
    for stage in pipeline.of(PrefillStage):
        stages.setdefault(stage.layer, []).append(stage)
    return stages


def cache_to_fill(
    adapter: VideoLLM, given: dict[str, Any], stage: DecodeStage | None
) -> Cache | None:
    """The cache that a prompt fills: the caller's own, or a new one. None if nothing is cached."""
    use_cache, cache = given.get("use_cache"), compat.given_cache(given)
    if use_cache is None:
        use_cache = adapter.text_config.use_cache
    wanted = cache is not None or use_cache
    if not wanted or compat.checkpoints(adapter.layers[0]):
        return None
    layer = CompressedLayer if stage is None else partial(PartitionedLayer, stage.offload)
    return compressed_cache(cache, adapter.depth, layer)


def begin(
    attached: Attached,
    video: VideoPrompt,
    given: dict[str, Any],
    readings: Sequence[TowerReading],
    clock: Clock,
    cache: Cache | None,
) -> tuple[Prefill, dict[str, Any]]:
    """Weighs frames and runs the vision stages of a prompt that is about to enter.

    Returns the pass, and the language model's arguments in place of `given`.
    """
    layout, videos = _layout(attached.adapter, video, given)
    report = Report(empty_reports(layout, videos), clock)
    reading = matching(readings, len(videos), layout.frames)
    weights: Weights = {}
    if (allocator := attached.pipeline.allocator) is not None:

        def inputs() -> dict[str, Any]:
            return guide.see(given, video.input_ids, reading, layout.frames, len(videos))

        guide = attached.guide
        weights, report.probe_layers = weigh(allocator, guide, layout, videos, inputs, clock)
    if not attached.pipeline.of(VisionStage):
        return Prefill(attached, PromptState(layout, videos, report), weights, cache), given
    left, stages = compress(
        attached.pipeline, given["inputs_embeds"], layout, videos, reading, weights
    )
    for sample, done in stages.items():
        report[sample].stages = done
    prompt = PromptState(
        left.layout, videos, report, layout.valid.shape[1], left.columns, left.removed
    )
    given = {**given, "inputs_embeds": left.embeds}
    if left.removed is not None:
        given |= {"attention_mask": left.layout.mask, "position_ids": left.layout.row}
    return Prefill(attached, prompt, weights, cache), given


def _layout(
    adapter: VideoLLM, video: VideoPrompt, given: dict[str, Any]
) -> tuple[Layout, list[int]]:
    """The uncompressed layout, on the device of the embeddings, and the samples with a video."""
    placeholder = video.placeholder.to(given["inputs_embeds"].device)
    mask = flat_mask(given.get("attention_mask"))
    valid = torch.ones_like(placeholder) if mask is None else mask.bool()
    return prompt_layout(placeholder, valid, adapter.cells, adapter.separators)


def empty_reports(layout: Layout, videos: Sequence[int]) -> list[SampleReport | None]:
    """One for every sample that holds a video."""
    samples = range(len(layout.valid))
    return [SampleReport(layout.frames, layout.cells) if i in videos else None for i in samples]
