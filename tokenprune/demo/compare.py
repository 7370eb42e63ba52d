"""One question to the full model, to strategies, and to random pruning at their budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from transformers import PreTrainedModel

from tokenprune import checkpoints, registry
from tokenprune.asking.questions import ask
from tokenprune.asking.replies import Replies
from tokenprune.demo.config import DemoConfig
from tokenprune.errors import StrategyError, TokenpruneError
from tokenprune.evaluation.generate import guide_of
from tokenprune.loading.checkpoint import Loaded, load
from tokenprune.loading.video import Clip
from tokenprune.pictures.footage import footage_of
from tokenprune.pixels import Kind
from tokenprune.plugins import load_plugins
from tokenprune.runtime.showing import sheet_of
from tokenprune.sheets import Sheet
from tokenprune.tasks import Sample
from tokenprune.tasks.metrics import METRICS

FULL, CONTROL = "none", "random"
GUIDE = "dytok"  # the allocator that every method with a budget can be offered with
LABELS = {FULL: "full model", CONTROL: "random (control)"}


@dataclass(frozen=True)
class Shown:
    """What one system made of the question.

    Args:
        label: of the system
        sheet: what it kept of each frame; None where there is an `error`
        worth: of the answer, 0 to 1; None where the right one is not known
        kept: measured: visual tokens, a fraction, mean over layers of the language model
        milliseconds: of the whole answer, the vision tower included
        parts: of it, milliseconds by name
        error: why there is no answer
    """

    label: str
    sheet: Sheet | None = None
    worth: float | None = None
    kept: float = math.nan
    milliseconds: float = math.nan
    parts: tuple[tuple[str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Models:
    """What answers: the model, and the assistant if there is one."""

    config: DemoConfig
    model: Loaded
    assistant: Loaded | None = None

    @classmethod
    def read(cls, config: DemoConfig) -> Models:
        """With plug-ins. Raises TokenpruneError, of a strategy before weights are read."""
        load_plugins(config.plugin)
        for spec in config.strategy:
            registry.build(spec)
        model = load(config.model, config.dtype, config.device, config)
        guide = None
        if config.assistant is not None:
            guide = load(config.assistant, config.dtype, config.device, config)
        return cls(config, model, guide)

    @property
    def guide(self) -> PreTrainedModel | None:
        """The assistant itself, without its processor."""
        return None if self.assistant is None else self.assistant.model

    @cached_property
    def note(self) -> str | None:
        """What figures of these models are worth, where one is embedded."""
        return checkpoints.note(self.config.model, self.config.assistant)

    def compare(self, sample: Sample, specs: Sequence[str], keep: float) -> Iterator[Shown]:
        """The full model first, random pruning second, then each of `specs`; all but the first are
        set to `keep`.
        """
        for spec in _systems(specs):
            try:
                yield self._shown(sample, spec, None if spec == FULL else keep)
            except TokenpruneError as error:  # of this system: the others answer
                yield Shown(LABELS.get(spec, spec), error=" ".join(str(error).split()))

    def number(self, specs: Sequence[str]) -> int:
        """How many systems `compare` asks."""
        return len(_systems(specs))

    def _shown(self, sample: Sample, spec: str, keep: float | None) -> Shown:
        pipeline = registry.build(spec)
        clip = Clip(sample.frames, sample.times, tuple(range(len(sample.frames))))
        replies = ask(
            self.model,
            clip,
            sample.full_question,
            pipeline,
            keep=keep,
            max_new_tokens=self.config.max_new_tokens,
            assistant=guide_of(pipeline, self.guide),
        )
        (reply,) = replies
        label = LABELS.get(spec, spec)
        times = [(name, reply.time.get(f"{name}_ms")) for name in ("vision", "probe", "prefill")]
        answer = METRICS[sample.metric](reply.answer, sample.answer) if sample.answer else None
        return Shown(
            label,
            _drawn(sample, replies, label, self.model.processor.pixels),
            answer,
            reply.report.layer_average_ratio,
            (reply.time["vision_ms"] or 0.0) + (reply.time["answer_ms"] or 0.0),
            tuple((name, value) for name, value in times if value),
        )


def _drawn(sample: Sample, replies: Replies, label: str, kind: Kind) -> Sheet:
    """Frames as the model got them, which may be cut or stand for two."""
    (reply,) = replies
    footage = footage_of(sample, [video.frames for video in reply.report.videos], kind)
    seconds = sample.times if len(footage) == len(sample.frames) else None
    sheet = sheet_of(reply.report, footage.pictures, seconds, label, reply.answer)
    changing = sheet.decode if len(set(sheet.decode)) > 1 else ()  # else the steps tell nothing
    return replace(sheet, evidence=footage.evidence, decode=changing)


def _systems(specs: Sequence[str]) -> list[str]:
    return [FULL, CONTROL, *(spec for spec in dict.fromkeys(specs) if spec not in LABELS)]


def choices() -> list[str]:
    """Specs to choose from: every method, alone and guided where that can be."""
    methods = [name for name in registry.names() if name not in (*LABELS, GUIDE)]
    return [spec for name in methods for spec in (name, f"{name}+{GUIDE}") if _fits(spec)]


def _fits(spec: str) -> bool:
    try:
        registry.build(spec)
    except StrategyError:
        return False
    return True
