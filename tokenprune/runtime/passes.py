"""What a session does in the forward passes of its model: the functions behind its hooks."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn
from transformers.cache_utils import Cache

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.compat import named
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime import attention, media
from tokenprune.runtime.again import recall
from tokenprune.runtime.flight import Flight
from tokenprune.runtime.guide import Guide
from tokenprune.runtime.hooks import Hook, kept_loss
from tokenprune.runtime.prompt_state import Prompt
from tokenprune.runtime.remarks import Remarks
from tokenprune.runtime.report import Clock, Report
from tokenprune.runtime.threads import Pass, Taps
from tokenprune.runtime.tower import TowerReading, tower_tap
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage


class Passes:
    """The passes between one entry of a session and its exit, in all threads; ended prompts go to
    `reports`.
    """

    def __init__(
        self,
        adapter: VideoLLM,
        pipeline: Pipeline,
        assistant: VideoLLM | None,
        timed: bool,
        reports: list[Report],
        remark: Remarks,
    ) -> None:
        self.pipeline, self.reports = pipeline, reports
        self._adapter, self._assistant, self._timed, self._remark = (
            adapter,
            assistant,
            timed,
            remark,
        )
        self._pruners: dict[int, list[PrefillStage]] = {}
        for stage in pipeline.of(PrefillStage):
            self._pruners.setdefault(stage.layer, []).append(stage)
        self._hider: DecodeStage | None = next(iter(pipeline.of(DecodeStage)), None)
        self._taps = Taps()
        self._guide = Guide(assistant or adapter, self._taps)
        self._prompts: weakref.WeakKeyDictionary[Cache, tuple[Prompt, Report]] = (
            weakref.WeakKeyDictionary()
        )
        self._pass = Pass(adapter.device, timed)
        self._under_way: set[Flight] = set()
        self._over = False

    def hook(self, stack: ExitStack) -> None:
        """Puts the hooks on, which closing `stack` takes off."""
        adapter = self._adapter
        configs = [adapter.text_config, adapter.tower.config]
        if self._guide.adapter.text_config is not adapter.text_config:
            configs.append(self._guide.adapter.text_config)
        self._check = stack.enter_context(attention.tapped(configs, self._taps))
        for module, hook in (
            (adapter.tower, self._before_tower),
            (adapter.body, self._before_body),
            (adapter.language_model, self._before_language_model),
            *(
                (adapter.layers[layer], partial(self._before_layer, layer))
                for layer in self._hooked_layers()
            ),
        ):
            stack.callback(module.register_forward_pre_hook(Hook(hook), with_kwargs=True).remove)
        landing = Hook(self._after_language_model)
        stack.callback(
            adapter.language_model.register_forward_hook(landing, always_call=True).remove
        )
        stack.enter_context(kept_loss(adapter.model, lambda: self._pass.passed))

    def end(self) -> None:
        """Ends the passes of other threads, whose caches must not grow any more."""
        self._over = True
        for flight in [*self._under_way]:
            flight.close()

    def _hooked_layers(self) -> range:
        """From the lowest layer at which anything happens, up: what is narrowed there stays
        narrowed.
        """
        first = [*self._pruners, *([self._hider.layer] if self._hider else [])]
        return range(min(first, default=self._adapter.depth), self._adapter.depth)

    def _before_tower(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        now = self._pass
        clock = now.clock = Clock(self._adapter.device, self._timed)
        now.since = clock.now()
        reading = TowerReading(named(module, args, kwargs)["pixel_values"])
        # a prompt needs at most its images' and its video's
        now.readings = [*now.readings[-1:], reading]
        if any(self.pipeline.signals):
            self._taps[self._adapter.tower_attention] = tower_tap(
                self._adapter, self.pipeline.signals, reading, clock
            )

    def _before_body(
        self, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[tuple[()], dict[str, Any]]:
        """Sees the prompt while its ids are known: finds the video, and realigns a second turn."""
        given = named(module, args, kwargs)
        cache = compat.given_cache(given)
        cached = 0 if cache is None else cache.get_seq_length()
        videos, images = media.videos_in(given), media.images_in(given)
        if images:
            self._remark("images", media.IMAGES)
        self._pass.flight = self._pass.passed = None
        self._check()
        if videos:
            if cached:
                raise UnsupportedGenerationError(
                    "a video arrives behind a filled cache: send the whole conversation as one "
                    "prompt, unchunked"
                )
            placeholder = self._adapter.placeholders(
                given.get("input_ids"), given.get("inputs_embeds")
            )
            media.check_one_each(placeholder, videos)
            if images and self._assistant is not None:
                raise UnsupportedGenerationError(
                    "an assistant sees the words and the video of a prompt, not its images, so it "
                    "would weigh frames "
                    "for another prompt: leave out the images, or the assistant"
                )
            encoded = compat.encoded_media(given, "video")
            self._pass.flight = Flight(
                self._adapter, self._guide, placeholder, given.get("input_ids"), encoded
            )
        elif cache is not None and cached and cache in self._prompts:
            given = self._prompts[cache][0].realign(given)
        return (), given

    def _before_language_model(
        self, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[tuple[()], dict[str, Any]] | None:
        now = self._pass
        if now.flight is not None and now.flight.probing:
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
            self._under_way.add(now.flight)
            if self._over:  # the block was left while the lines above ran in another thread
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
            full = media.beyond(
                self._guide.adapter.text_config, before, "the prompt that the guide reads"
            )
            self._remark("guide", full)

    def _before_layer(
        self, layer: int, module: nn.Module, args: Any, kwargs: Any
    ) -> tuple[Any, dict[str, Any]] | None:
        flight = self._pass.flight
        if flight is None or flight.probing:
            return None
        return flight.enter_layer(
            layer, named(module, args, kwargs), self._pruners.get(layer, []), self._hider
        )

    def _after_language_model(self, module: nn.Module, args: Any, output: Any) -> None:
        flight = self._pass.flight
        if flight is None or flight.probing:
            return
        self._pass.flight = None
        self._taps.clear()
        self._under_way.discard(flight)
        flight.close()
        if output is not None:  # None: the forward pass raised
            flight.report.clock.add("prefill" if flight.prefill else "decode", self._pass.since)
            if flight.land(self._hider):
                self._remark("unseen", media.unseen(str(self.pipeline), flight.report.unseen_from))
                self.reports.append(flight.report)
                self._pass.passed = flight.prompt
