"""What a session does in the forward passes of its model: the functions behind its hooks."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.compat import named
from tokenprune.errors import UnsupportedGenerationError
from tokenprune.runtime import arrival, compiled, decode, fixed_cache, media, prefill
from tokenprune.runtime.cache import holds, lead
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.guide import Guide
from tokenprune.runtime.hanging import Hanging
from tokenprune.runtime.hooks import Hook, kept_loss, put
from tokenprune.runtime.looking import Looking
from tokenprune.runtime.phase import LayerArguments, Phase
from tokenprune.runtime.prompt_state import PromptState
from tokenprune.runtime.recorder import Recorder
from tokenprune.runtime.remarks import Remarks
from tokenprune.runtime.report import Report
from tokenprune.runtime.seen import Seen
from tokenprune.runtime.tapping import Taps, own_config, tapped
from tokenprune.runtime.threads import Pass
from tokenprune.runtime.tower_stage import Inside
from tokenprune.runtime.uncached import recall
from tokenprune.strategy import Pipeline

Arguments = tuple[tuple[()], dict[str, Any]]  # of a module, all of them by name


class Passes:
    """The passes between one entry of a session and its exit, in all threads.

    Prompts that have ended go to `reports`.
    """

    def __init__(
        self,
        adapter: VideoLLM,
        pipeline: Pipeline,
        assistant: VideoLLM | None,
        timed: bool,
        images: bool,
        reports: list[Report],
        remark: Remarks,
        recorder: Recorder | None = None,
    ) -> None:
        self.pipeline, self.reports = pipeline, reports
        self._adapter, self._timed, self._remark = adapter, timed, remark
        self._images, self._decode_stage = images, pipeline.decode_stage
        self._recorder = recorder
        self._taps = Taps()
        self._hanging = Hanging(adapter, self._before_layer)
        stage = pipeline.tower_stage
        self._inside = None if stage is None else Inside(adapter, stage, self._taps)
        self._guide = Guide(adapter, assistant, self._taps, stage is not None)
        self._attached = prefill.Attached(adapter, pipeline, self._guide)
        # what is known of the prompts whose caches live
        self._prompts: weakref.WeakKeyDictionary[Cache, PromptState] = weakref.WeakKeyDictionary()
        self._pass = Pass(adapter.devices, timed)
        lends, now = self._guide.shares, self._pass
        self._looking = Looking(
            adapter, pipeline.signals, lends, self._taps, now, timed, self._inside
        )
        self._under_way: set[Phase] = set()
        self._read: set[nn.Module] = set()  # attention that is ours all the time
        self._over = False

    def hook(self, stack: ExitStack) -> None:
        """Puts the hooks on, which closing `stack` takes off.

        Those of layers, and our attention in the language model, come and go with the passes that
        need them.
        """
        adapter, guide = self._adapter, self._guide.adapter
        standing = [adapter.tower.config]
        if guide.text_config is not adapter.text_config:
            standing.append(guide.text_config)
        self._standing = stack.enter_context(tapped(standing, self._taps))
        self._standing.begin()
        self._reading = stack.enter_context(tapped([adapter.text_config], self._taps))
        self._spared = adapter.spares_mask()
        stack.callback(self._hanging.end)
        self._looking.hook(stack)
        if (stage := self._decode_stage) is not None:  # which acts in every step
            self._hanging.hang([stage.layer])
            module = adapter.attention(stage.layer - 1)
            own = stack.enter_context(own_config(module, adapter.text_config))
            stack.enter_context(tapped(own, self._taps)).begin()
            self._read = {module} if own else set()
            if not own:  # compiled code finds it at the one place that there is
                self._reading.begin()
        before = (
            (adapter.body, Hook(self._before_body)),
            (adapter.language_model, Hook(self._before_language_model, compiled.entering)),
        )
        for module, hook in before:
            handle = put(module.register_forward_pre_hook(hook, with_kwargs=True))
            stack.callback(handle.remove)
        after = Hook(self._after_language_model)
        handle = put(adapter.language_model.register_forward_hook(after, always_call=True))
        stack.callback(handle.remove)
        stack.enter_context(kept_loss(adapter.model, lambda: self._pass.passed))

    def encode(self, media: Mapping[str, Any]) -> dict[str, Any]:
        """See `Session.encode`."""
        return self._looking.encode(media)

    def end(self) -> None:
        """Ends the passes of other threads, whose caches must not grow any more."""
        self._over = True
        for phase in [*self._under_way]:
            lead(phase.cache, False)
        for cache in [*self._prompts]:
            fixed_cache.end(cache)

    def _before_body(self, module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        """Sees the prompt while its ids are known, and finds the video."""
        now, given = self._pass, named(module, args, kwargs)
        cache, images = compat.given_cache(given), media.images_in(self._adapter, given)
        if images and not self._images:
            self._remark("images", media.IMAGES)
        if now.phase is not None:  # an interrupt has ended it
            self._leave(now.phase)
        before, now.passed, now.arrived = now.passed, None, None
        if before is not None:  # else what it holds would pile up where nothing is generated
            before.report.promises.check()
        now.mask = given.get("attention_mask")
        self._standing.check()
        self._reading.check()
        video = media.video_prompt(self._adapter, given, self._images)
        if video is None:
            return (), given
        if cache is not None and cache.get_seq_length():
            raise UnsupportedGenerationError(
                "a video arrives behind a filled cache: send the whole conversation as one "
                "prompt, unchunked"
            )
        if images and self._guide.assists:
            raise UnsupportedGenerationError(
                "an assistant sees the words and the video of a prompt, not its images, so it "
                "would weigh frames for another prompt: leave out the images, or the assistant"
            )
        now.arrived = video
        return (), given

    def _known(self, cache: Cache | None) -> PromptState | None:
        """The prompt that has filled a cache, if a pass of this session did."""
        prompt = None if cache is None else self._prompts.get(cache)
        return prompt if cache is not None and prompt is not None and holds(cache) else None

    def _before_language_model(self, module: nn.Module, args: Any, kwargs: Any) -> Arguments:
        now, given = self._pass, named(module, args, kwargs)
        video, now.arrived = now.arrived, None
        cache = compat.given_cache(given)
        if video is not None:
            phase, given = self._begin(video, self._flat(given))
        elif cache is not None and (prompt := self._known(cache)) is not None:
            prompt.report.promises.check()  # its first token has been waited for
            flat = self._flat(given)
            stage = self._decode_stage
            phase = decode.resume(flat, self._adapter, stage, prompt, cache, self._spared)
            if self.pipeline.strategies:
                given = decode.corrected(flat, prompt)
        else:  # words or images, whose readings the next video must not be taken for; or a guide
            now.readings.clear()
            return (), given
        self._hanging.hang(phase.acting)
        now.phase = phase
        lead(phase.cache, True)
        taps = phase.taps()
        if self._recorder is not None:
            taps = self._recorder.around(self._adapter, phase, taps)
        self._taps.update(taps)
        if not taps.keys() <= self._read:
            self._reading.begin()
            now.reads = True
        now.since = now.clock.now()
        self._under_way.add(phase)
        if self._over:  # the block was left while the lines above ran in another thread
            lead(phase.cache, False)
        return (), given

    def _flat(self, given: dict[str, Any]) -> dict[str, Any]:
        """With the mask that the body was given, where it has made one of every kind of layer."""
        mask = given.get("attention_mask")
        if isinstance(mask, dict):
            mask = self._pass.mask
        if isinstance(mask, dict) or (isinstance(mask, Tensor) and mask.ndim > 2):
            columns = given["inputs_embeds"].shape[1]
            mask = fixed_cache.flat(mask, compat.given_cache(given), columns)
        return {**given, "attention_mask": mask}

    def _begin(
        self, video: media.VideoPrompt, given: dict[str, Any]
    ) -> tuple[Phase, dict[str, Any]]:
        """A video prompt is about to enter the language model."""
        now, uncompressed = self._pass, given
        seen = Seen.of(video.encoded, self._adapter)
        self._looking.end()
        if now.readings:
            now.clock.add("vision", now.since)
        else:
            now.clock = seen.lap() or Clock(self._adapter.devices, self._timed)
        ours = None
        if self.pipeline.strategies:
            ours = arrival.cache_to_fill(self._adapter, given, self.pipeline)
        if ours is not None:
            given = {**given, **compat.caching(self._adapter.language_model, ours)}
        cache = compat.given_cache(given)
        now.uncached = recall(now.uncached, video, now.readings) if cache is None else None
        readings = now.readings
        if now.uncached is not None:
            now.uncached.check(self.pipeline)
            readings = now.uncached.readings
        seen = seen.behind(readings)
        with now.clock.inner("strategy"), self._weighing():
            phase, given = arrival.begin(self._attached, video, given, seen, now.clock, ours)
        now.clock.forget_inner()
        if self._inside is not None:
            self._inside.note(phase.prompt.report, seen.readings)
        if cache is not None:
            self._prompts[cache] = phase.prompt
        now.readings.clear()
        self._remark_context(uncompressed, given)
        return phase, given

    def _weighing(self) -> AbstractContextManager[None]:
        """While a guide may read attention."""
        return nullcontext() if self.pipeline.allocator is None else self._reading.under_way()

    def _remark_context(self, uncompressed: dict[str, Any], given: dict[str, Any]) -> None:
        """Warns where a prompt is longer than the model, or the guide, was made for."""
        config = self._adapter.text_config
        self._remark("context", media.beyond(config, given, "the prompt"))
        if self.pipeline.allocator is not None:
            config, what = self._guide.adapter.text_config, "the prompt that the guide reads"
            self._remark("guide", media.beyond(config, uncompressed, what))

    def _before_layer(
        self, layer: int, module: nn.Module, args: Any, kwargs: Any
    ) -> LayerArguments | None:
        phase = self._pass.phase  # none in a thread whose pass shares the hook of another's
        if phase is None or layer not in phase.acting:
            return None
        return phase.enter_layer(layer, named(module, args, kwargs))

    def _after_language_model(self, module: nn.Module, args: Any, output: Any) -> None:
        phase = self._pass.phase
        if phase is None:
            return
        self._leave(phase)
        if output is None:  # the forward pass raised
            return
        phase.prompt.report.clock.add(phase.lap, self._pass.since)
        if (prompt := phase.finish()) is not None:
            self._hanging.hold(fixed_cache.narrowed(phase.cache))
            remark = media.unseen(str(self.pipeline), prompt.report.unseen_from)
            self._remark("unseen", remark)
            self.reports.append(prompt.report)
            self._pass.passed = prompt

    def _leave(self, phase: Phase) -> None:
        """Takes off what hung on the model for a pass."""
        self._pass.phase = None
        self._taps.clear()
        if self._pass.reads:
            self._pass.reads = False
            self._reading.end()
        self._hanging.take_off(phase.acting)
        self._under_way.discard(phase)
        lead(phase.cache, False)
