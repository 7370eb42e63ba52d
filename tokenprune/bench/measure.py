"""How one turn of a candidate is measured: the time of each part, memory, and rows worked on.

A CPU needs one pass. A device that works behind the CPU's back needs two: one that waits for it
wherever a part ends, and one that nothing disturbs.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

from torch import Tensor
from transformers import CompileConfig, GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from tokenprune.bench import memory
from tokenprune.bench.config import DYNAMIC, STATIC
from tokenprune.bench.inputs import Inputs
from tokenprune.bench.reading import PARTS, Reading, Seen
from tokenprune.compat import filled_cache
from tokenprune.runtime.clock import Clock

Parts = Mapping[str, float | None]  # milliseconds, by the names of PARTS


class _Stamps(BaseStreamer):
    """When each token had reached the CPU, which waits for the device."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.clock = Clock([], on=True)

    def put(self, value: Tensor) -> None:
        self.at.append(self.clock.now())

    def end(self) -> None:
        pass


def settled(model: PreTrainedModel, cache: str = DYNAMIC) -> PreTrainedModel:
    """A model of ours that generates greedily and never stops before it has made all tokens.

    On a GPU transformers compiles the step of a static `cache`: for each length by itself, since
    a graph in which lengths are variables is slower, and not every candidate would get one.
    """
    pad = model.config.get_text_config().pad_token_id
    config = GenerationConfig(do_sample=False, pad_token_id=0 if pad is None else pad)
    if cache == STATIC:
        config.cache_implementation = STATIC
        if model.device.type == "cuda":
            config.compile_config = CompileConfig(dynamic=False)
    model.generation_config = config
    return model


class Candidate(ABC):
    """Something that answers the prompts of `inputs` with `tokens` new tokens each."""

    def __init__(self, inputs: Inputs, tokens: int) -> None:
        self.inputs, self.tokens = inputs, tokens
        self.device = inputs.adapter.device
        # one pass gives both: nothing is waited for
        self.at_once = self.device.type == "cpu"
        self.static = inputs.cache == STATIC
        self._peak: float | None = None  # counted once, on a CPU

    @property
    def model(self) -> Any:  # transformers' annotations do not let a checker bind `generate`
        return self.inputs.adapter.model

    @property
    def assistant(self) -> PreTrainedModel | None:
        return None

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What `generate` takes; a tower that runs here is part of the time."""

    @abstractmethod
    def attached(self, timed: bool = False) -> AbstractContextManager[Any]:
        """Around a pass; `timed` waits for the device wherever a part ends."""

    @abstractmethod
    def split(self, held: Any) -> Parts:
        """The time of each part, from what `attached(timed=True)` held."""

    @abstractmethod
    def seen(self, held: Any) -> Seen:
        """What a pass worked on, from what `attached` held."""

    def generate(self, tokens: int, stamps: _Stamps | None = None) -> Any:
        settings = {"max_new_tokens": tokens, "return_dict_in_generate": True, "streamer": stamps}
        return self.model.generate(**self.arguments(), **settings)

    def warm_up(self) -> None:
        """A pass that is not measured; on a CPU it counts memory, which does not vary.

        With a static cache it makes all tokens: what is compiled depends on how many there will be.
        """
        with self.attached():
            if self.device.type == "cpu" and self._peak is None:
                self._peak = self._counted_peak()
            else:
                self.generate(self._enough)

    @property
    def _enough(self) -> int:
        """Tokens of a pass that is not measured."""
        return self.tokens if self.static else 2

    def _counted_peak(self) -> float:
        models = [model for model in (self.model, self.assistant) if model is not None]
        there = memory.weights(models) + memory.bytes_of(self.inputs.tensors())
        return float(there + memory.allocated(lambda: self.generate(self._enough)))

    def turn(self) -> Reading:
        """Measures once."""
        if self._peak is None and self.device.type == "cpu":
            self.warm_up()
        parts: Parts = {} if self.at_once else self._parts()
        memory.reset(self.inputs.adapter.devices)
        stamps, clock = _Stamps(), Clock(self.inputs.adapter.devices, on=True)
        with self.attached(timed=self.at_once) as held:
            since = clock.now()
            done = self.generate(self.tokens, stamps)
            if self.at_once:
                parts = self.split(held)
            seen = self.seen(held)
        times = _times(parts, stamps.at, since, self.static)
        cache = memory.cache_bytes(filled_cache(done), self.device)
        return Reading(times, self._reached_peak(), float(cache), seen)

    def _parts(self) -> Parts:
        """From a pass of its own, up to the first token."""
        with self.attached(timed=True) as held:
            self.generate(1)
            return self.split(held)

    def _reached_peak(self) -> float | None:
        reached = memory.reached(self.inputs.adapter.devices)
        if reached is None:
            return self._peak
        # an assistant's weights lie on the device while others are measured, too
        idle = self.inputs.idle if self.assistant is None else 0
        return float(reached - idle)


def _times(parts: Parts, stamps: list[float], since: float, static: bool) -> dict[str, float]:
    """All of TIMES; `stamps` are the seconds at which the prompt and each token had arrived.

    The first steps on a new static cache record CUDA graphs, so that the time of one is the median.
    """
    _, first, *_, last = at = [1e3 * (stamp - since) for stamp in stamps]
    known = {name: parts.get(name) or 0.0 for name in PARTS}
    steps = [after - before for before, after in pairwise(at[1:])]
    per_token = statistics.median(steps) if static else (last - first) / len(steps)
    return {**known, "ttft_ms": first, "decode_ms_per_token": per_token, "total_ms": last}
