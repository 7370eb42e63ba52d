"""One system, one turn: a pass that splits the time before the first token, and one that runs undisturbed."""

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
from tokenprune.bench.material import Material, encoded
from tokenprune.report import Clock, SampleReport
from tokenprune.session import attach
from tokenprune.strategy import DecodeStage, Pipeline

TIMES = ("vision_ms", "strategy_ms", "prefill_ms", "ttft_ms", "decode_ms_per_token", "total_ms")


@dataclass(frozen=True)
class Reading:
    """One turn of one system; times in milliseconds for the whole batch, from prepared pixels on."""

    times: Mapping[str, float]
    peak: float | None  # bytes
    cache: float  # bytes, after the last token
    layers: list[float]  # visual rows of one sample that each LLM layer saw at prefill
    decode: list[float]  # and attends to in a decoding step, mean over steps
    probe_layers: int = 0


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
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=0 if pad is None else pad)
    return model


class System(ABC):
    """Something that answers the prompt of `material`."""

    def __init__(self, material: Material, tokens: int) -> None:
        self.material, self.tokens = material, tokens
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
    def split(self) -> tuple[float, float, float]:
        """Milliseconds of tower and projector, strategy, and the rest of the LLM's prefill, each waited for."""

    @abstractmethod
    def attached(self) -> AbstractContextManager[Any]:
        """Around a pass that nothing waits for."""

    @abstractmethod
    def seen(self, session: Any) -> tuple[list[float], list[float], int]:
        """Visual rows by layer at prefill and decode, and the layers of a probe."""

    def generate(self, tokens: int, stamps: _Stamps | None = None) -> Any:
        settings = {"max_new_tokens": tokens, "return_dict_in_generate": True, "streamer": stamps}
        return self.model.generate(**self.inputs(), **settings)

    def turn(self) -> Reading:
        """Measures once."""
        device = self.material.adapter.device
        vision, strategy, prefill = self.split()
        memory.reset(device)
        stamps, clock = _Stamps(), Clock(device, on=True)
        with self.attached() as session:
            since = clock.now()
            done = self.generate(self.tokens, stamps)
            layers, decode, probe = self.seen(session)
        _, first, *_, last = [1e3 * (at - since) for at in stamps.at]  # the prompt itself comes first
        per_token = (last - first) / (self.tokens - 1)
        times = (vision, strategy, prefill, first, per_token, last)
        cache = memory.cache_bytes(done.past_key_values, device)
        named: Mapping[str, float] = dict[str, float](zip(TIMES, times, strict=True))
        return Reading(named, self._reached(device), float(cache), layers, decode, probe)

    def _reached(self, device: torch.device) -> float | None:
        if device.type != "cpu":
            reached = memory.reached(device)
            return None if reached is None else float(reached)
        if self._peak is None:  # allocations do not vary, so one pass counts them

            def run() -> None:
                with self.attached():
                    self.generate(2)

            models = [model for model in (self.model, self.assistant) if model is not None]
            there = memory.weights(models) + memory.bytes_of(self.material.tensors())
            self._peak = float(there + memory.allocated(run))
        return self._peak


class Dense(System):
    """The stock model on `width` visual rows, without any hook of ours in the pass that runs undisturbed."""

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

    def split(self) -> tuple[float, float, float]:
        with _laps(self.material) as laps:
            self.generate(1)
        return 1e3 * laps.get("vision", 0.0), 0.0, 1e3 * laps["prefill"]

    def attached(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def seen(self, session: Any) -> tuple[list[float], list[float], int]:
        layers = [float(self.width)] * self.material.adapter.depth
        return layers, layers, 0


@contextmanager
def _laps(material: Material) -> Iterator[dict[str, float]]:
    """Seconds from the tower's entry to the language model's, and in the latter, as a timed session takes them."""
    adapter, clock = material.adapter, Clock(material.adapter.device, on=True)
    since: dict[str, float] = {}
    laps: dict[str, float] = {}

    def tower(*_: Any) -> None:
        since["vision"] = clock.now()

    def enter(*_: Any) -> None:
        since["prefill"] = clock.now()
        if "vision" in since:
            laps["vision"] = since["prefill"] - since["vision"]

    def leave(*_: Any) -> None:
        laps["prefill"] = clock.now() - since["prefill"]

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
        self, material: Material, tokens: int, pipeline: Pipeline, assistant: PreTrainedModel | None = None
    ) -> None:
        super().__init__(material, tokens)
        self.pipeline = pipeline
        self._assistant = assistant if pipeline.allocator is not None else None

    @property
    def assistant(self) -> PreTrainedModel | None:
        return self._assistant

    def inputs(self) -> dict[str, Any]:
        return self.material.inputs()

    def attached(self) -> AbstractContextManager[Any]:
        return attach(self.model, self.pipeline, assistant=self._assistant)

    def split(self) -> tuple[float, float, float]:
        with attach(self.model, self.pipeline, assistant=self._assistant, timed=True) as session:
            self.generate(1)
        took = session.report.time
        return took["vision_ms"] or 0.0, took["strategy_ms"] or 0.0, took["prefill_ms"] or 0.0

    def seen(self, session: Any) -> tuple[list[float], list[float], int]:
        own = session.report[0]  # all samples are copies
        return [float(rows) for rows in own.layers], self._decode(own), session.report.probe_layers

    def _decode(self, own: SampleReport) -> list[float]:
        """A decode stage hides rows from its layer up; everything else reads all rows it has cached."""
        hider = next(iter(self.pipeline.of(DecodeStage)), None)
        if hider is None:
            return [float(rows) for rows in own.layers]
        visible = sum(own.decode) / len(own.decode)
        return [float(rows) if layer < hider.layer else visible for layer, rows in enumerate(own.layers)]
