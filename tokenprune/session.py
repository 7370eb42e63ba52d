"""`attach`: carries a pipeline on one stock model instance, by hooks that are gone when the block ends."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from tokenprune import attention, compat, registry
from tokenprune.adapters import VideoLLM, adapt
from tokenprune.compat import named
from tokenprune.errors import StrategyError, UnsupportedGenerationError
from tokenprune.flight import Flight
from tokenprune.probing import Guide
from tokenprune.prompt import Prompt
from tokenprune.report import Clock, Report
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage
from tokenprune.tower import TowerReading, tower_tap


def attach(
    model: PreTrainedModel,
    spec: str | Pipeline,
    options: registry.Options | None = None,
    assistant: PreTrainedModel | None = None,
    timed: bool = False,
) -> Session:
    """Compresses every video prompt of `model` inside `with attach(model, "a+b") as session:`.

    Stock `generate` and `forward` work as always: greedy search, sampling, beams (without a decode stage), streamers,
    stopping criteria, padded batches. Text-only prompts and second turns pass through untouched. `assistant`, a smaller
    model of the same family, weighs frames for an allocator in place of `model` itself. `timed` fills `report.time`.

    Raises StrategyError for a pipeline that cannot work on this model, UnsupportedModelError for an unknown family.
    """
    if isinstance(spec, Pipeline) and options:
        raise StrategyError("options go with a spec string: a pipeline already has its fields")
    pipeline = spec if isinstance(spec, Pipeline) else registry.build(spec, options)
    adapter = adapt(model)
    pipeline.check(adapter.depth)
    guide = None if assistant is None else adapt(assistant)
    if guide is not None and pipeline.allocator is None:
        raise StrategyError(
            f"{pipeline} has no allocator that an assistant could guide: add +dytok, or drop the assistant"
        )
    if guide is not None and (guide.cells, guide.marker) != (adapter.cells, adapter.marker):
        raise StrategyError(
            f"the assistant sees {guide.cells} tokens per frame behind placeholder {guide.marker}, the model "
            f"{adapter.cells} behind {adapter.marker}: choose one of the same family, resolution and tokenizer"
        )
    return Session(adapter, pipeline, guide, timed)


class Session:
    """An attached pipeline: `report` says what the last video prompt kept, `reports` has every prompt of the block."""

    def __init__(self, adapter: VideoLLM, pipeline: Pipeline, assistant: VideoLLM | None, timed: bool) -> None:
        self.pipeline = pipeline
        self.reports: list[Report] = []
        self._adapter, self._assistant, self._timed = adapter, assistant, timed
        self._pruners: dict[int, list[PrefillStage]] = {}
        for stage in pipeline.of(PrefillStage):
            self._pruners.setdefault(stage.layer, []).append(stage)
        self._hider: DecodeStage | None = next(iter(pipeline.of(DecodeStage)), None)
        self._taps: dict[nn.Module, attention.Tap] = {}
        self._guide = Guide(adapter, self._taps)
        self._stack = ExitStack()
        self._prompts: WeakKeyDictionary[Cache, tuple[Prompt, Report]] = WeakKeyDictionary()
        self._readings: list[TowerReading] = []
        self._flight: Flight | None = None
        self._clock = Clock(adapter.device, timed)
        self._since = 0.0

    @property
    def report(self) -> Report:
        """The last video prompt's; LookupError before the first."""
        if not self.reports:
            raise LookupError("no video prompt has gone through this session yet: call model.generate inside the block")
        return self.reports[-1]

    def __enter__(self) -> Session:
        adapter, undo = self._adapter, self._stack.callback
        if attention.is_tapped(adapter.text_config):
            raise StrategyError(
                "this model is attached already: compose strategies with +, or leave the other block first"
            )
        tap = self._stack.enter_context
        tap(attention.tapped([adapter.text_config, adapter.tower.config], self._taps))
        if self._assistant is not None:
            taps: dict[nn.Module, attention.Tap] = {}
            tap(attention.tapped([self._assistant.text_config], taps))
            self._guide = Guide(self._assistant, taps)
        for module, hook in (
            (adapter.tower, self._before_tower),
            (adapter.body, self._before_body),
            (adapter.language_model, self._before_language_model),
            *((adapter.layers[layer], partial(self._before_layer, layer)) for layer in self._hooked_layers()),
        ):
            undo(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        undo(adapter.language_model.register_forward_hook(self._after_language_model, always_call=True).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._taps.clear()
        self._readings.clear()
        self._prompts.clear()
        self._flight = None

    def _hooked_layers(self) -> range:
        """From the lowest layer at which anything happens, up: what is narrowed there stays narrowed."""
        first = [*self._pruners, *([self._hider.layer] if self._hider else [])]
        return range(min(first, default=self._adapter.depth), self._adapter.depth)

    def _before_tower(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        clock = self._clock = Clock(self._adapter.device, self._timed)
        self._since = clock.now()
        reading = TowerReading(named(module, args, kwargs)["pixel_values"])
        self._readings = [*self._readings[-1:], reading]  # a prompt needs at most its images' and its video's
        if any(self.pipeline.signals):
            self._taps[self._adapter.tower_attention] = tower_tap(self._adapter, self.pipeline.signals, reading, clock)

    def _before_body(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[tuple[()], dict[str, Any]]:
        """Sees the prompt while its ids are known: finds the video, and realigns a second turn."""
        given = named(module, args, kwargs)
        cache = compat.given_cache(given)
        cached = 0 if cache is None else cache.get_seq_length()
        encoded = compat.encoded_video(given)
        self._flight = None
        if given.get("pixel_values_videos") is not None or encoded is not None:
            if cached:
                raise UnsupportedGenerationError(
                    "a video arrives behind a filled cache: send the whole conversation as one prompt, unchunked"
                )
            placeholder = self._adapter.placeholders(given.get("input_ids"), given.get("inputs_embeds"))
            self._flight = Flight(self._adapter, self._guide, placeholder, given.get("input_ids"))
        elif cache is not None and cached and cache in self._prompts:
            given = self._prompts[cache][0].realign(given)
        return (), given

    def _before_language_model(
        self, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[tuple[()], dict[str, Any]] | None:
        if self._flight is not None and self._flight.probing:
            return None
        given = named(module, args, kwargs)
        cache = compat.given_cache(given)
        if self._flight is not None:
            self._begin(self._flight, given)
        elif cache is not None and cache.get_seq_length() and cache in self._prompts:
            prompt, report = self._prompts[cache]
            self._flight = Flight(self._adapter, self._guide, prompt=prompt, report=report)
            self._flight.resume(given, cache)
        if self._flight is not None:
            self._taps.update(self._flight.row_taps(self._pruners, self._hider))
            self._since = self._clock.now()
        return (), given

    def _begin(self, flight: Flight, given: dict[str, Any]) -> None:
        """A video prompt is about to enter the language model."""
        self._taps.pop(self._adapter.tower_attention, None)
        if self._readings:
            self._clock.add("vision", self._since)
        else:
            self._clock = Clock(self._adapter.device, self._timed)
        clock = self._clock
        cache = flight.cache(given, guarded=bool(self.pipeline.strategies), hider=self._hider)
        with clock.inner("strategy"):
            report = flight.begin(given, self.pipeline, self._readings, clock)
        clock.forget_inner()
        if cache is not None:
            self._prompts[cache] = flight.prompt, report
        self._readings.clear()

    def _before_layer(self, layer: int, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]] | None:
        if self._flight is None or self._flight.probing:
            return None
        return self._flight.enter_layer(layer, named(module, args, kwargs), self._pruners.get(layer, []), self._hider)

    def _after_language_model(self, module: nn.Module, args: Any, output: Any) -> None:
        flight = self._flight
        if flight is None or flight.probing:
            return
        self._flight = None
        self._taps.clear()
        if output is not None:  # None: the forward pass raised
            flight.report.clock.add("prefill" if flight.prefill else "decode", self._since)
            if flight.land(self._hider):
                self.reports.append(flight.report)
