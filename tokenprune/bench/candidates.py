"""What takes turns: the stock model on fewer visual rows, and pipelines attached to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from transformers import PreTrainedModel

from tokenprune.adapters import VideoLLM
from tokenprune.bench.inputs import Inputs
from tokenprune.bench.measure import Candidate, Parts
from tokenprune.bench.reading import Seen
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.report import Report
from tokenprune.runtime.session import attach
from tokenprune.strategy import Pipeline


class Dense(Candidate):
    """The stock model on `width` visual rows, without a session of ours."""

    def __init__(self, inputs: Inputs, tokens: int, width: int) -> None:
        super().__init__(inputs, tokens)
        self.width = width
        self._rows = inputs.some(width)  # which ones does not matter to time and memory

    def arguments(self) -> dict[str, Any]:
        if self.width == self.inputs.full:
            return self.inputs.arguments()
        features = self.inputs.encode().at(self._rows)
        return {**self.inputs.prompts(self.width), **features.arguments(self.inputs.adapter)}

    def attached(self, timed: bool = False) -> AbstractContextManager[Any]:
        return _laps(self.inputs.adapter) if timed else nullcontext()

    def split(self, held: Any) -> Parts:
        return {f"{name}_ms": 1e3 * seconds for name, seconds in held.items()}

    def seen(self, held: Any) -> Seen:
        layers = [float(self.width)] * self.inputs.adapter.depth
        return Seen(layers, layers)


@contextmanager
def _laps(adapter: VideoLLM) -> Iterator[dict[str, float]]:
    """Seconds from the tower's entry to the LLM's, and in its first pass, as timed sessions do."""
    clock = Clock(adapter.devices, on=True)
    since: dict[str, float] = {}
    laps: dict[str, float] = {}

    def enter_tower(*_: Any) -> None:
        since["vision"] = clock.now()

    def enter(*_: Any) -> None:
        since["prefill"] = clock.now()
        if "vision" in since:
            laps.setdefault("vision", since["prefill"] - since["vision"])

    def leave(*_: Any) -> None:
        laps.setdefault("prefill", clock.now() - since["prefill"])

    hooks = [
        adapter.tower.register_forward_pre_hook(enter_tower),
        adapter.language_model.register_forward_pre_hook(enter),
        adapter.language_model.register_forward_hook(leave),
    ]
    try:
        yield laps
    finally:
        for hook in hooks:
            hook.remove()


class Attached(Candidate):
    """A pipeline on the model, through `attach` as anyone uses it."""

    def __init__(
        self,
        inputs: Inputs,
        tokens: int,
        pipeline: Pipeline,
        assistant: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(inputs, tokens)
        self.pipeline = pipeline
        self._assistant = assistant if pipeline.allocator is not None else None

    @property
    def assistant(self) -> PreTrainedModel | None:
        return self._assistant

    def arguments(self) -> dict[str, Any]:
        return self.inputs.arguments()

    def attached(self, timed: bool = False) -> AbstractContextManager[Any]:
        return attach(self.model, self.pipeline, assistant=self._assistant, timed=timed)

    def split(self, held: Any) -> Parts:
        return held.report.time

    def seen(self, held: Any) -> Seen:
        report: Report = held.report
        sample = report[0]  # samples differ in their text alone
        layers = [float(rows) for rows in sample.layers]
        stage = self.pipeline.decode_stage
        tower = () if sample.tower is None else sample.tower.layers
        if stage is None:  # every row that is cached is read
            return Seen(layers, layers, report.probe, tower=tower)
        visible = sum(sample.decode) / len(sample.decode)
        decode = [rows if layer < stage.layer else visible for layer, rows in enumerate(layers)]
        return Seen(layers, decode, report.probe, sample.decode_changes, tower)
