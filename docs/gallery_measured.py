"""What each strategy keeps of one clip, measured on the embedded model, and its contact sheets."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gallery_inside as inside
import torch

from tokenprune import registry
from tokenprune.evaluation.generate import Generated, generate
from tokenprune.loading.device import threads
from tokenprune.loading.processor import GREEDY
from tokenprune.options import load_file
from tokenprune.pictures.answers import pipeline_of
from tokenprune.pictures.config import FigureConfig
from tokenprune.pictures.contact import contact
from tokenprune.pictures.drawing import Drawing
from tokenprune.pictures.footage import footage_of
from tokenprune.pictures.kept import Kept
from tokenprune.pictures.subject import Subject
from tokenprune.strategy import Allocator

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "experiments" / "tinyvqa_methods.yaml"  # layers, scaled to the model's six
SAMPLE = "tinyvqa-0-16-00143"  # see FIRST
HOST = "visionzip"  # whose budget an allocator shares out
REPEATS = 15  # answers that are timed, after one that is not
CELLS = 36  # of a frame
KEEP = 9 / CELLS  # of the gallery: all methods reach it
TIGHT = 5 / CELLS  # of the first picture
# The first picture shows the first needle question of the benchmark that all but the last of these
# lose at that budget, and that the last and the full model answer.
FIRST = ("random", "visionzip", "visionzip+dytok")
NOTE = "tiny, a small model embedded in this package: not the papers’ results."


@dataclass(frozen=True)
class Shown:
    """One pipeline on the clip.

    Args:
        spec: its strategies, joined by +
        answer: what the model said
        slots: per frame, the cells that reached the last layer
        grid: height and width of a frame in cells
        layers: visual tokens that each LLM layer saw of the prompt
        full: visual tokens without compression
        merged: whether a kept cell may stand for several tokens
        decode: fraction of them that a decoding step sees, None where one token is the answer
        strategy_ms: its own stages before the first token, the fastest time of several
        probe_ms: the pass of an allocator's guide, likewise
        prefill_ms: the rest of the language model's pass over the prompt, likewise
        work: of a stage inside the vision tower, the tower's multiply-adds as a fraction of the
            full model's; `slots` and `grid` are patches then, those that `inside.LEFT` names
    """

    spec: str
    answer: str
    slots: list[list[int]]
    grid: list[int]
    layers: list[int]
    full: int
    merged: bool
    decode: float | None
    strategy_ms: float
    probe_ms: float
    prefill_ms: float
    work: float | None = None

    @property
    def average(self) -> float:
        """Kept fraction, mean over layers."""
        return statistics.fmean(self.layers) / self.full

    @property
    def kept(self) -> Kept:
        """As figures take it."""
        height, width = self.grid
        grids = [(height, width)] * len(self.slots)
        if self.work is not None:
            label, unit = inside.setting(self.spec), inside.LEFT[self.spec]
            return Kept(label, self.slots, grids, self.answer, unit=unit)
        said = {"merged": self.merged, "average": self.average}
        return Kept(self.spec, self.slots, grids, self.answer, **said)


def specs() -> dict[str, str]:
    """The pipeline that shows each registered strategy, by its name: an allocator needs a host."""
    return {name: spec_of(name) for name in registry.names()}


def spec_of(name: str) -> str:
    return f"{HOST}+{name}" if issubclass(registry.get(name), Allocator) else name


def options() -> dict[str, Any]:
    """Those of the study, so that pictures and scores are of the same pipelines."""
    studied: Sequence[Mapping[str, Any]] = load_file(str(STUDY))["strategies"]
    return {key: value for one in studied for key, value in one.get("options", {}).items()}


def subject(keep: float) -> Subject:
    """The clip and the model that is asked about it, at a budget."""
    fixed = {"frames": 16, "device": "cpu", "dtype": "float32"}
    return Subject.of(FigureConfig(sample=SAMPLE, keep=keep, options=options(), **fixed))


def shown(spec: str, made: Sequence[Generated]) -> Shown:
    """What a pipeline keeps and says. Times are the fastest of its answers after the first one:
    what else a machine does only adds to them.
    """
    report, times = made[0].report[0], [each.time for each in made[1:] or made]
    video = report.videos[0]
    return Shown(
        spec,
        made[0].texts[0],
        report.slots,
        [video.height, video.width],
        report.layers,
        report.full,
        report.merged,
        None if report.decode_ratio is None else round(report.decode_ratio, 4),
        **{name: _fastest(times, name) for name in ("strategy_ms", "probe_ms", "prefill_ms")},
    )


def answered(one: Subject, specs: Sequence[str], rounds: int = 1) -> dict[str, list[Generated]]:
    """The answers of pipelines, which take turns so that none has the busy minute to itself."""
    settings = {"max_new_tokens": one.config.max_new_tokens, **GREEDY}
    found: dict[str, list[Generated]] = {spec: [] for spec in specs}
    for _ in range(rounds):
        for spec, made in found.items():
            pipeline = pipeline_of(one, spec)
            with torch.no_grad():
                asked = generate(
                    one.model, pipeline, one.processor, one.inputs(), settings, timed=True
                )
            made.append(asked)
    return found


def _fastest(times: Iterable[Mapping[str, float | None]], name: str) -> float:
    return round(min(time[name] or 0.0 for time in times), 2)


@threads(1)
def measured(loose: Subject, tight: Subject) -> dict[str, Any]:
    """What the model keeps and says under every pipeline, as the file has it: `gallery` at KEEP,
    `first` at TIGHT. On one thread, so that times say the same on any number of cores.
    """
    first = ("none", *FIRST)
    return {
        "sample": SAMPLE,
        "keep": KEEP,
        "tight": TIGHT,
        "question": loose.sample.question,
        "right": loose.sample.answer,
        "evidence": [*loose.sample.evidence],
        "machine": platform.machine(),
        "torch": torch.__version__,
        "gallery": parts(loose, ["none", *specs()]),
        "first": [asdict(shown(*each)) for each in answered(tight, first).items()],
    }


@threads(1)
def parts(loose: Subject, names: Sequence[str]) -> list[dict[str, Any]]:
    """Of strategies by name, `none` among them, what the file has of each."""
    known = {"none": "none", **specs()}
    budgeted = [known[name] for name in names if name == "none" or not inside.inside(name)]
    made = answered(loose, budgeted, REPEATS + 1)
    found = {spec: asdict(shown(spec, each)) for spec, each in made.items()}
    for name in names:
        if known[name] not in found:
            whole = asdict(shown(name, inside.answers(loose, name)))
            found[name] = {**whole, **inside.seen(loose, name)}
    return [found[known[name]] for name in names]


def sheet(seen: Sequence[Shown], one: Subject, title: str = "", foot: str = "") -> Drawing:
    """The contact sheets of some pipelines on the clip."""
    footage = footage_of(one.sample, [len(seen[0].slots)], one.processor.pixels)
    return contact([each.kept for each in seen], footage, title, foot)
