"""One system, one turn: how long each part takes, how much memory it needs and how many rows it
works on.

A CPU needs one pass. A device that works behind the CPU's back needs two: one that waits for it
wherever a part ends, and one that nothing disturbs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from tokenprune.bench import memory
from tokenprune.bench.inputs import Material
from tokenprune.compat import encoded, filled_cache
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.report import Report
from tokenprune.runtime.session import attach
from tokenprune.strategy import DecodeStage, Pipeline

PARTS = ("vision_ms", "strategy_ms", "probe_ms", "prefill_ms")  # before the first token
TIMES = (*PARTS, "ttft_ms", "decode_ms_per_token", "total_ms")


@dataclass(frozen=True)
class Reading:
    """One turn of one system; times in milliseconds for the whole batch, from prepared pixels on."""

    times: Mapping[str, float]
    peak: float | None  # bytes
    cache: float  # bytes, after the last token
    layers: list[float]  # visual rows of one sample that each LLM layer saw at prefill
    decode: list[float]  # and attends to in a decoding step, mean over steps
    probe_layers: int = 0
    # decoding steps that attended to other visual rows than the step before them
    changes: int | None = None


Seen = tuple[list[float], list[float], int, int | None]  # the last four of `Reading`


class _Stamps(BaseStreamer):
    """When each token had reached the CPU, which waits for the device."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.clock = Clock(torch.device("cpu"), on=True)

    def put(self, value: Tensor) -> None:
        self.at.append(self.clock.now())

    def end(self) -> None:
        pass


def settled(model: PreTrainedModel) -> PreTrainedModel:
    """A model of ours that generates greedily and never stops before it has made all tokens."""
    pad = model.config.get_text_config().pad_token_id
    model.generation_config = GenerationConfig(
        do_sample=False, pad_token_id=0 if pad is None else pad
    )
    return model


class System(ABC):
    """Something that answers the prompt of `material`."""

    def __init__(self, material: Material, tokens: int) -> None:
        self.material, self.tokens = material, tokens
        # one pass gives both: nothing is waited for
        self.at_once = material.adapter.device.type == "cpu"
        self._peak: float | None = None

    @property
    def model(self) -> Any:  # transformers' annotations do not let a checker bind `generate`
        return self.material.adapter.model

    @property
    def assistant(self) -> PreTrainedModel | None:
        return None

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """What `generate` takes; a tower that runs here is part of the time."""

    @abstractmethod
    def attached(self, timed: bool = False) -> AbstractContextManager[Any]:
        """Around a pass; `timed` waits for the device wherever a part ends."""

    @abstractmethod
    def split(self, held: Any) -> Mapping[str, float | None]:
        """Milliseconds of `PARTS`, from what `attached(timed=True)` held."""

    @abstractmethod
    def seen(self, held: Any) -> Seen:
        """What a pass worked on, from what `attached` held."""

    def generate(self, tokens: int, stamps: _Stamps | None = None) -> Any:
        settings = {"max_new_tokens": tokens, "return_dict_in_generate": True, "streamer": stamps}
        return self.model.generate(**self.inputs(), **settings)

    def warm_up(self) -> None:
        """A pass that is not measured; on a CPU it counts memory, which does not vary."""
        with self.attached():
            if self.material.adapter.device.type != "cpu" or self._peak is not None:
                self.generate(2)
                return
            models = [model for model in (self.model, self.assistant) if model is not None]
            there = memory.weights(models) + memory.bytes_of(self.material.tensors())
            self._peak = float(there + memory.allocated(lambda: self.generate(2)))

    def turn(self) -> Reading:
        """Measures once."""
        device = self.material.adapter.device
        if self._peak is None and device.type == "cpu":
            self.warm_up()
        parts: Mapping[str, float | None] = {}
        if not self.at_once:
            with self.attached(timed=True) as held:
                self.generate(1)
                parts = self.split(held)
        memory.reset(device)
        stamps, clock = _Stamps(), Clock(device, on=True)
        with self.attached(timed=self.at_once) as held:
            since = clock.now()
            done = self.generate(self.tokens, stamps)
            if self.at_once:
                parts = self.split(held)
            seen = self.seen(held)
        # the prompt itself comes first
        _, first, *_, last = [1e3 * (at - since) for at in stamps.at]
        named: dict[str, float] = {name: parts.get(name) or 0.0 for name in PARTS}
        named |= {
            "ttft_ms": first,
            "decode_ms_per_token": (last - first) / (self.tokens - 1),
            "total_ms": last,
        }
        cache, peak = memory.cache_bytes(filled_cache(done), device), self._peak
        if (reached := memory.reached(device)) is not None:
            peak = float(reached - (self.material.idle if self.assistant is None else 0))
        return Reading(named, peak, float(cache), *seen)


class Dense(System):
    """The stock model on `width` visual rows, without a session of ours."""

    def __init__(self, material: Material, tokens: int, width: int) -> None:
        super().__init__(material, tokens)
        self.width = width
        separators = torch.arange(material.adapter.separators) + material.full
        # evenly spaced rows; which ones does not matter to time and memory
        rows = torch.cat([torch.arange(width) * material.full // max(1, width), separators])
        self._rows = rows.to(material.adapter.device)

    def inputs(self) -> dict[str, Any]:
        if self.width == self.material.full:
            return self.material.inputs()
        features = self.material.encode().index_select(1, self._rows)
        return {**self.material.words(self.width), **encoded(features)}

    def attached(self, timed: bool = False) -> AbstractContextManager[Any]:
        return _laps(self.material) if timed else nullcontext()

    def split(self, held: Any) -> Mapping[str, float | None]:
        return {f"{name}_ms": 1e3 * seconds for name, seconds in held.items()}

    def seen(self, held: Any) -> Seen:
        layers = [float(self.width)] * self.material.adapter.depth
        return layers, layers, 0, None


@contextmanager
def _laps(material: Material) -> Iterator[dict[str, float]]:
    """Seconds from the tower's entry to the language model's, and in its first pass, as a timed
    session takes them.
    """
    adapter, clock = material.adapter, Clock(material.adapter.device, on=True)
    since: dict[str, float] = {}
    laps: dict[str, float] = {}

    def tower(*_: Any) -> None:
        since["vision"] = clock.now()

    def enter(*_: Any) -> None:
        since["prefill"] = clock.now()
        if "vision" in since:
            laps.setdefault("vision", since["prefill"] - since["vision"])

    def leave(*_: Any) -> None:
        laps.setdefault("prefill", clock.now() - since["prefill"])

    hooks = [
        adapter.tower.register_forward_pre_hook(tower),
        adapter.language_model.register_forward_pre_hook(enter),
        adapter.language_model.register_forward_hook(leave),
    ]
    try:
        yield laps
    finally:
        for hook in hooks:
            hook.remove()


class Attached(System):
    """A pipeline on the model, through `attach` as anyone uses it."""

    def __init__(
        self,
        material: Material,
        tokens: int,
        pipeline: Pipeline,
        assistant: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(material, tokens)
        self.pipeline = pipeline
        self._assistant = assistant if pipeline.allocator is not None else None

    @property
    def assistant(self) -> PreTrainedModel | None:
        return self._assistant

    def inputs(self) -> dict[str, Any]:
        return self.material.inputs()

    def attached(self, timed: bool = False) -> AbstractContextManager[Any]:
        return attach(self.model, self.pipeline, assistant=self._assistant, timed=timed)

    def split(self, held: Any) -> Mapping[str, float | None]:
        return held.report.time

    def seen(self, held: Any) -> Seen:
        report: Report = held.report
        # samples differ in their text alone
        own, layers = report[0], [float(rows) for rows in report[0].layers]
        hider = next(iter(self.pipeline.of(DecodeStage)), None)
        if hider is None:  # every row that is cached is read
            return layers, layers, report.probe_layers, None
        visible = sum(own.decode) / len(own.decode)
        decode = [rows if layer < hider.layer else visible for layer, rows in enumerate(layers)]
        return layers, decode, report.probe_layers, own.decode_changes
