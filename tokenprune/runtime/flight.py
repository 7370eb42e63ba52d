"""One forward pass of the language model: what the hooks of a session do between its entry and its
exit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.guards import contract
from tokenprune.precision import full_precision
from tokenprune.runtime.attention import Tap, last_row, rows_at
from tokenprune.runtime.cache import CompressedLayer, compressed_cache, lead
from tokenprune.runtime.guide import PROMPT, Guide, PromptProbe
from tokenprune.runtime.layout import Layout, flat_mask, prompt_layout, take
from tokenprune.runtime.partitioned_cache import PagedLayer
from tokenprune.runtime.prompt_state import Prompt
from tokenprune.runtime.report import Clock, Report
from tokenprune.runtime.tower import TowerReading, matching, visual_tokens
from tokenprune.strategy import Allocator, DecodeStage, Pipeline, PrefillStage, VisionStage


class Flight:
    """A forward pass under way: a prompt's prefill, or a step behind it.

    Keyword arguments narrowed at one layer replace the caller's in all layers above, which get the
    originals.
    """

    prompt: Prompt
    report: Report

    def __init__(
        self,
        adapter: VideoLLM,
        guide: Guide,
        placeholder: Bool[Tensor, "b s"] | None = None,
        input_ids: Int[Tensor, "b s"] | None = None,
        encoded: Any = None,
        prompt: Prompt | None = None,
        report: Report | None = None,
    ) -> None:
        self.adapter, self.guide = adapter, guide
        self.placeholder, self.input_ids, self.encoded = placeholder, input_ids, encoded
        self.prefill = placeholder is not None
        self.probing = False
        self.generating = False  # one token per sample, so a decode stage acts
        if prompt is not None and report is not None:
            self.prompt, self.report = prompt, report
        self._rows: dict[int, Float[Tensor, "b t"]] = {}  # last row's attention, by layer
        self._narrowed: dict[str, Any] = {}
        self._visible: Bool[Tensor, "b t"] | None = None
        self._cache: Cache | None = None

    # prefill

    def begin(
        self,
        given: dict[str, Any],
        pipeline: Pipeline,
        readings: Sequence[TowerReading],
        clock: Clock,
    ) -> Report:
        """Weighs frames and runs the vision stages; rewrites the language model's arguments in
        `given`.
        """
        embeds, mask = given["inputs_embeds"], flat_mask(given.get("attention_mask"))
        assert self.placeholder is not None
        placeholder = self.placeholder.to(embeds.device)
        valid = torch.ones_like(placeholder) if mask is None else mask.bool()
        layout, videos = prompt_layout(
            placeholder, valid, self.adapter.cells, self.adapter.separators
        )
        self.prompt = Prompt(pipeline, layout, videos)
        self.report = Report(self.prompt.reports, clock)
        reading = matching(readings, len(videos), layout.frames)
        if (allocator := pipeline.allocator) is not None:
            self.prompt.weights = self._weigh(allocator, layout, given, reading)
        if pipeline.of(VisionStage):
            tokens = [
                visual_tokens(embeds, layout, videos, i, reading, pipeline)
                for i in range(len(videos))
            ]
            with full_precision():
                given["inputs_embeds"] = self.prompt.compress(embeds, tokens)
            if (positions := self.prompt.positions()) is not None:
                given["attention_mask"], given["position_ids"] = (
                    self.prompt.layouts[0].mask,
                    positions,
                )
        return self.report

    def cache(
        self, given: dict[str, Any], guarded: bool, hider: DecodeStage | None
    ) -> Cache | None:
        """The cache that the prompt fills, None where the caller wants none; `given` gets it if it
        is ours.
        """
        use_cache, cache = given.get("use_cache"), compat.given_cache(given)
        wanted = cache is not None or (
            self.adapter.text_config.use_cache if use_cache is None else use_cache
        )
        if not wanted or not guarded or compat.checkpoints(self.adapter.layers[0]):
            return cache
        layer = CompressedLayer if hider is None else partial(PagedLayer, hider.offload)
        self._cache = compressed_cache(cache, self.adapter.depth, layer)
        given.update(compat.caching(self.adapter.language_model, self._cache))
        lead(self._cache, True)
        return self._cache

    def _weigh(
        self,
        allocator: Allocator,
        layout: Layout,
        given: dict[str, Any],
        reading: TowerReading | None,
    ) -> dict[int, Float[Tensor, "f"]]:
        """One probe of the guide serves all samples; nothing runs until the allocator asks for
        layers.
        """
        read: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}

        def once(layers: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
            if layers not in read:
                self.report.probe_layers = max(self.report.probe_layers, max(layers) + 1)
                with self.report.clock.inner("probe"), autocast():
                    if self.guide.adapter is self.adapter:
                        inputs = {name: given.get(name) for name in PROMPT}
                    else:
                        inputs = self.guide.see(
                            given, self.input_ids, reading, layout.frames, len(self.prompt.videos)
                        )
                    read[layers] = self.guide.read(layers, layout.last, inputs)
            return read[layers]

        self.probing = True
        try:
            with full_precision() as autocast:
                weights = {
                    sample: contract.ask(
                        allocator,
                        "weigh",
                        PromptProbe(self.guide, layout, sample, once),
                        sample=sample,
                    )
                    for sample in self.prompt.videos
                }
        finally:
            self.probing = False
        return {
            sample: contract.weights(allocator, layout.frames, weight)
            for sample, weight in weights.items()
        }

    # decode

    def resume(self, given: dict[str, Any], cache: Cache) -> None:
        """A step behind the prompt in `cache`: corrects mask and positions for the rows that are
        gone.
        """
        self._cache = cache
        lead(cache, True)
        columns = given["inputs_embeds"].shape[1]
        self.generating = columns == 1
        if not self.generating:
            self.prompt.pages.reveal(cache.layers)
        self.prompt.extend(columns, flat_mask(given.get("attention_mask")))
        if self.prompt.pipeline.strategies:
            given["attention_mask"] = self.prompt.mask(0)
            given["position_ids"] = self.prompt.step_positions(given.get("position_ids"), columns)

    # layers

    @contextmanager
    def _choosing(self) -> Iterator[None]:
        """Times what a prefill or decode stage takes within the model's own layers, and keeps its
        scores in fp32.
        """
        with self.report.clock.inner("strategy" if self.prefill else "choosing"), full_precision():
            yield

    def row_taps(self, pruners: Collection[int], hider: DecodeStage | None) -> dict[nn.Module, Tap]:
        """Taps that record the last row's attention in the layers below those where this pass
        chooses rows.
        """
        layers = (
            pruners
            if self.prefill
            else [hider.layer]
            if hider is not None and self.generating
            else []
        )

        def reader(layer: int) -> Tap:
            def tap(query: Tensor, key: Tensor, scale: float) -> None:
                with self._choosing():
                    number = self.prompt.at(layer)
                    layout, mask = self.prompt.layouts[number], self.prompt.mask(number)
                    row = rows_at(query, layout.last) if self.prefill else query[:, :, 0]
                    # layers may live on different devices; layouts stay on the first
                    mask = None if mask is None else mask.to(key.device)
                    self._rows[layer] = last_row(row, key, scale, mask).to(layout.valid.device)

            return tap

        return {self.adapter.attention(layer - 1): reader(layer - 1) for layer in layers}

    def enter_layer(
        self,
        layer: int,
        given: dict[str, Any],
        pruners: Sequence[PrefillStage],
        hider: DecodeStage | None,
    ) -> tuple[tuple[Tensor], dict[str, Any]] | None:
        """The arguments that `layer` gets instead of `given`, None if they are the same."""
        given = {**given, **self._narrowed}
        if self.prefill and pruners:
            given = self._prune(layer, given, pruners)
        elif not self.prefill and self.prompt.pipeline.strategies:
            given = self._look(layer, given, hider if self.generating else None)
        if not self._narrowed:
            return None
        # reentrant checkpointing passes gradients on to positional arguments only
        return (given.pop("hidden_states"),), given

    def _prune(
        self, layer: int, given: dict[str, Any], pruners: Sequence[PrefillStage]
    ) -> dict[str, Any]:
        with self._choosing():
            columns = self.prompt.prune(layer, pruners, self._rows[layer - 1])
        hidden = take(given["hidden_states"], columns)
        self._narrowed = {
            "attention_mask": self._causal(hidden, self.prompt.layouts[-1].mask, layer),
            "position_embeddings": tuple(
                take(part, columns) for part in given["position_embeddings"]
            ),
        }
        if given.get("position_ids") is not None:
            self._narrowed["position_ids"] = take(given["position_ids"], columns)
        return {**given, **self._narrowed, "hidden_states": hidden}

    def _look(self, layer: int, given: dict[str, Any], hider: DecodeStage | None) -> dict[str, Any]:
        """Mask of a step behind the prompt, made anew where the cached rows or the visible ones
        change.

        The cache layers of a decode stage bring their visible rows together, and the mask has their
        slots.
        """
        opens = layer in self.prompt.starts[1:]
        if hider is not None and hider.layer != layer:
            hider = None
        if not opens and hider is None:
            return given
        number = self.prompt.at(layer)
        if hider is not None:
            with self._choosing():
                row = self._rows[layer - 1]
                self._visible = self.prompt.attend(
                    hider, self.prompt.carry(row, number) if opens else row
                )
        elif self._visible is not None:
            self._visible = self.prompt.carry(self._visible, number) & self.prompt.validity(number)
        if self._visible is None:
            mask = self.prompt.mask(number)
        else:
            assert self._cache is not None
            layers = self._cache.layers[layer : self.prompt.until(number, self.adapter.depth)]
            mask = self.prompt.pages.show(number, layers, self._visible)
        self._narrowed = {"attention_mask": self._causal(given["hidden_states"], mask, layer)}
        return {**given, **self._narrowed}

    def _causal(self, hidden: Tensor, mask: Bool[Tensor, "b t"] | None, layer: int) -> Any:
        """The mask of `layer` in the form the model's attention implementation takes.

        No positions are passed: gaps would be mistaken for several sequences packed into one.
        """
        mask = None if mask is None else mask.to(hidden.device)
        return create_causal_mask(
            self.adapter.text_config, hidden, mask, self._cache, layer_idx=layer
        )

    def close(self) -> None:
        """Ends the pass, whether or not it has come to its end: the cache must not grow until the
        next one.
        """
        lead(self._cache, False)

    def land(self, hider: DecodeStage | None) -> bool:
        """Writes the report; True when a prefill has ended.

        A promised reduction that did not happen raises.
        """
        if not self.prefill:
            if hider is None and self.generating:
                self.prompt.count_step()
            return False
        depth = self.adapter.depth
        self.prompt.finish(depth)
        if self._cache is not None:
            cached = [self._cache.get_seq_length(layer) for layer in range(depth)]
            expected = [
                self.prompt.layouts[self.prompt.at(layer)].valid.shape[1] for layer in range(depth)
            ]
            if cached != expected:
                raise RuntimeError(
                    f"the layers cached {cached} rows where {self.prompt.pipeline} leaves "
                    f"{expected}"
                )
        return True
