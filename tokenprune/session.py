"""`attach`: carries a pipeline on one stock model instance, by hooks that are gone when the block ends."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn
from transformers.cache_utils import Cache

from tokenprune import attention, compat, media, registry
from tokenprune.adapters import VideoLLM
from tokenprune.again import recall
from tokenprune.attachable import attachable, check_free, guide_of
from tokenprune.compat import named
from tokenprune.declaration import check_classes
from tokenprune.errors import StrategyError
from tokenprune.flight import Flight
from tokenprune.hooks import Hook, kept_loss
from tokenprune.probing import Guide
from tokenprune.prompt import Prompt
from tokenprune.remarks import Remarks, warn
from tokenprune.report import Clock, Report
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage
from tokenprune.threads import Pass, Taps
from tokenprune.tower import TowerReading, tower_tap

HOW = "write `with attach(model, ...) as session:` and call model.generate inside the block"
ENTERING = threading.Lock()  # whether a model is free has to be asked and answered by one thread at a time


def attach(
    model: Any,
    spec: str | Pipeline,
    options: registry.Options | None = None,
    assistant: Any = None,
    timed: bool = False,
) -> Session:
    """Compresses every video prompt of `model` inside `with attach(model, "a+b") as session:`, and nothing outside it.

    Stock `generate` and `forward` work as always: greedy search, sampling, beams (without a decode stage), streamers,
    stopping criteria, padded batches. Text-only prompts and second turns pass through untouched, and so do images, with
    a warning. `model` and `assistant` are stock models of transformers: of wrapped ones (PEFT, DDP, torch.compile) pass
    what is inside. `assistant`, a smaller model of the same family, weighs frames for an allocator in place of `model`
    itself. `timed` fills `report.time`.

    Raises StrategyError for a pipeline or an assistant that cannot work on this model, UnsupportedModelError for
    anything that is not a model of a known family; both say what to pass instead.
    """
    if isinstance(spec, Pipeline) and options:
        raise StrategyError("options go with a spec string: a pipeline already has its fields")
    pipeline = spec if isinstance(spec, Pipeline) else registry.build(spec, options)
    check_classes(pipeline)
    adapter = attachable(model)
    pipeline.check(adapter.depth)
    return Session(adapter, pipeline, guide_of(adapter, assistant, pipeline), timed)


class Session:
    """An attached pipeline: `report` says what the last video prompt kept, `reports` has every prompt of the block.

    It may be entered again once it was left, which continues `reports`. Threads may share an open one: a forward pass
    and what hooks know of it belong to the thread that runs it, while `reports` has the prompts of all threads in the
    order in which they ended.
    """

    def __init__(self, adapter: VideoLLM, pipeline: Pipeline, assistant: VideoLLM | None, timed: bool) -> None:
        self.pipeline = pipeline
        self._adapter, self._assistant, self._timed = adapter, assistant, timed
        self._pruners: dict[int, list[PrefillStage]] = {}
        for stage in pipeline.of(PrefillStage):
            self._pruners.setdefault(stage.layer, []).append(stage)
        self._hider: DecodeStage | None = next(iter(pipeline.of(DecodeStage)), None)
        self._stack = ExitStack()
        self._open = False
        self._reports: list[Report] = []
        self._remark = Remarks()
        self._begin_anew()
        unused = f"attach(model, '{pipeline}') was never entered, so it compressed nothing: {HOW}"
        self._unused = weakref.finalize(self, warn, unused)

    def _begin_anew(self) -> None:
        """Forgets all prompts and passes."""
        self._pass = Pass(self._adapter.device, self._timed)
        self._taps = Taps()
        self._guide = Guide(self._adapter, self._taps)
        self._prompts: weakref.WeakKeyDictionary[Cache, tuple[Prompt, Report]] = weakref.WeakKeyDictionary()
        self._flying: set[Flight] = set()  # passes of all threads
        self._checks: list[Callable[[], None]] = []

    @property
    def reports(self) -> list[Report]:
        """One for every video prompt, oldest first; StrategyError before the session was entered."""
        if self._unused.alive:
            raise StrategyError(f"this session was never entered, so it compressed nothing: {HOW}")
        return self._reports

    @property
    def report(self) -> Report:
        """The last video prompt's; LookupError before the first, StrategyError before the session was entered."""
        if not self.reports:
            raise LookupError("no video prompt has gone through this session yet: call model.generate inside the block")
        return self.reports[-1]

    def __enter__(self) -> Session:
        self._unused.detach()
        with ENTERING:
            if self._open:
                raise StrategyError("this session is open already: leave its block before entering it again")
            check_free(self._adapter, self._assistant)
            self._begin_anew()
            with ExitStack() as undone_on_error:
                self._hook(undone_on_error)
                self._stack = undone_on_error.pop_all()
            self._open = True
        return self

    def _hook(self, stack: ExitStack) -> None:
        adapter, tap = self._adapter, stack.enter_context
        self._checks = [tap(attention.tapped([adapter.text_config, adapter.tower.config], self._taps))]
        if self._assistant is not None:
            self._guide = Guide(self._assistant, Taps())
            self._checks.append(tap(attention.tapped([self._assistant.text_config], self._guide.taps)))
        for module, hook in (
            (adapter.tower, self._before_tower),
            (adapter.body, self._before_body),
            (adapter.language_model, self._before_language_model),
            *((adapter.layers[layer], partial(self._before_layer, layer)) for layer in self._hooked_layers()),
        ):
            stack.callback(module.register_forward_pre_hook(Hook(hook), with_kwargs=True).remove)
        landing = Hook(self._after_language_model)
        stack.callback(adapter.language_model.register_forward_hook(landing, always_call=True).remove)
        tap(kept_loss(adapter.model, lambda: self._pass.passed))

    def __exit__(self, *_: object) -> None:
        with ENTERING:
            if not self._open:
                raise StrategyError(f"this session is not open: {HOW}")
            self._open = False
            for flight in list(self._flying):  # of other threads, whose caches must not grow any more
                flight.close()
            self._stack.close()
        self._begin_anew()

    def _hooked_layers(self) -> range:
        """From the lowest layer at which anything happens, up: what is narrowed there stays narrowed."""
        first = [*self._pruners, *([self._hider.layer] if self._hider else [])]
        return range(min(first, default=self._adapter.depth), self._adapter.depth)

    def _before_tower(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        now = self._pass
        clock = now.clock = Clock(self._adapter.device, self._timed)
        now.since = clock.now()
        reading = TowerReading(named(module, args, kwargs)["pixel_values"])
        now.readings = [*now.readings[-1:], reading]  # a prompt needs at most its images' and its video's
        if any(self.pipeline.signals):
            self._taps[self._adapter.tower_attention] = tower_tap(self._adapter, self.pipeline.signals, reading, clock)

    def _before_body(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[tuple[()], dict[str, Any]]:
        """Sees the prompt while its ids are known: finds the video, and realigns a second turn."""
        given = named(module, args, kwargs)
        cache = compat.given_cache(given)
        cached = 0 if cache is None else cache.get_seq_length()
        videos, images = media.videos_in(given), media.images_in(given)
        if images:
            self._remark("images", media.IMAGES)
        self._pass.flight = self._pass.passed = None
        for check in self._checks:
            check()
        if videos:
            placeholder = self._adapter.placeholders(given.get("input_ids"), given.get("inputs_embeds"))
            media.check(placeholder, videos, images and self._assistant is not None, bool(cached))
            encoded = compat.encoded_media(given, "video")
            self._pass.flight = Flight(self._adapter, self._guide, placeholder, given.get("input_ids"), encoded)
            return (), given
        if cache is not None and cached and cache in self._prompts:
            given = self._prompts[cache][0].realign(given)
        return (), given

    def _before_language_model(
        self, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[tuple[()], dict[str, Any]] | None:
        if (now := self._pass).flight is not None and now.flight.probing:
            return None
        given = named(module, args, kwargs)
        cache = compat.given_cache(given)
        if now.flight is not None:
            self._begin(now.flight, given)
        elif cache is not None and cache.get_seq_length() and cache in self._prompts:
            prompt, report = self._prompts[cache]
            now.flight = Flight(self._adapter, self._guide, prompt=prompt, report=report)
            now.flight.resume(given, cache)
        if now.flight is None:
            now.readings.clear()  # of images, which the next video must not be taken for
        else:
            self._taps.update(now.flight.row_taps(self._pruners, self._hider))
            now.since = now.clock.now()
            self._flying.add(now.flight)
            if not self._open:  # the block was left while the lines above ran in another thread
                now.flight.close()
        return (), given

    def _begin(self, flight: Flight, given: dict[str, Any]) -> None:
        """A video prompt is about to enter the language model."""
        now, before = self._pass, {**given}
        self._taps.pop(self._adapter.tower_attention, None)
        if now.readings:
            now.clock.add("vision", now.since)
        else:
            now.clock = Clock(self._adapter.device, self._timed)
        cache = flight.cache(given, guarded=bool(self.pipeline.strategies), hider=self._hider)
        now.again = recall(now.again, flight, now.readings) if cache is None else None
        if now.again is not None:
            now.again.check(self.pipeline)
            now.readings = [*now.again.readings]
        with now.clock.inner("strategy"):
            report = flight.begin(given, self.pipeline, now.readings, now.clock)
        now.clock.forget_inner()
        if cache is not None:
            self._prompts[cache] = flight.prompt, report
        now.readings.clear()
        self._remark("context", media.beyond(self._adapter.text_config, given, "the prompt"))
        if self.pipeline.allocator is not None:
            read = self._guide.adapter.text_config
            self._remark("guide", media.beyond(read, before, "the prompt that the guide reads"))

    def _before_layer(self, layer: int, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]] | None:
        flight = self._pass.flight
        if flight is None or flight.probing:
            return None
        return flight.enter_layer(layer, named(module, args, kwargs), self._pruners.get(layer, []), self._hider)

    def _after_language_model(self, module: nn.Module, args: Any, output: Any) -> None:
        flight = self._pass.flight
        if flight is None or flight.probing:
            return
        self._pass.flight = None
        self._flying.discard(flight)
        self._taps.clear()
        flight.close()
        if output is not None:  # None: the forward pass raised
            flight.report.clock.add("prefill" if flight.prefill else "decode", self._pass.since)
            if flight.land(self._hider):
                self._remark("unseen", media.unseen(str(self.pipeline), flight.report.unseen_from))
                self._reports.append(flight.report)
                self._pass.passed = flight.prompt
