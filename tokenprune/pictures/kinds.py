"""What each kind of figure does with a model and a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenprune.pictures import attention, decoding, kept
from tokenprune.pictures.answers import (
    answered,
    check_guided,
    kept_of,
    looked,
    pipeline_of,
    told_of,
)
from tokenprune.pictures.config import FigureConfig
from tokenprune.pictures.drawing import Drawing, shortened
from tokenprune.pictures.subject import Subject, without_content
from tokenprune.registry import build
from tokenprune.runtime.recorder import Recorder

FULL = "full model"


@dataclass(frozen=True)
class Made:
    """A drawing, the paragraph below it, and its numbers."""

    drawing: Drawing
    caption: str
    data: dict[str, Any]


def over_frames(config: FigureConfig) -> Made:
    """Attention to each frame, mean over all layers, and the frames with the most (DyToK 1)."""
    subject = Subject.of(config, config.assistant)
    row, layers, made = looked(subject)
    footage = subject.footage(made.report[0].videos)
    weights = row.share[0].mean(0)
    title = f'{asked(subject)} - {subject.name}: "{shortened(made.texts[0])}"'
    drawing = attention.over_frames(weights, footage, escaped(title), config.top)
    caption = subject.caption(
        f"Attention of the last prompt token to visual tokens, softmax over these alone, mean over "
        f"heads, the tokens of a frame and {layers} layers, all tokens kept:"
    )
    data = {"weights": rounded(weights), "evidence": [*footage.evidence], "answer": made.texts[0]}
    return Made(drawing, caption, data)


def by_layer(config: FigureConfig) -> Made:
    """Attention in each layer to each frame (DyToK 5 and 6), or to frames without content (9)."""
    subject = Subject.of(config, config.assistant)
    blank = without_content(subject.sample.frames, config.seed)
    shown = {name: subject.showing(blank[name]) for name in config.contents} or {"": subject}
    maps, data = [], {}
    for name, one in shown.items():
        row, _, made = looked(one)
        footage = one.footage(made.report[0].videos)
        label = f'{name + ": " if name else ""}"{shortened(made.texts[0], 32)}"'
        maps.append(attention.Seen(escaped(label), row.mass[0], footage.evidence))
        data[name or "sample"] = [rounded(layer) for layer in row.mass[0]]
    title = f"{asked(subject)} - {subject.name}"
    drawing = attention.by_layer(maps, escaped(title))
    what = f"frames of {', '.join(config.contents)}" if config.contents else "each frame"
    caption = subject.caption(
        f"Attention of the last prompt token that falls on {what}, in each layer, mean over heads, "
        "with its mean over layers above and over frames beside, all tokens kept:"
    )
    return Made(drawing, caption, data)


def over_footage(config: FigureConfig) -> Made:
    """What a strategy keeps, below what another one keeps at the same budget (DyToK 10 to 17)."""
    subject = Subject.of(config)
    systems, footage, data = [], None, {}
    specs = [spec for spec in (config.against, config.strategy) if spec]
    pipelines = {spec: pipeline_of(subject, spec) for spec in specs}
    check_guided(config, pipelines.values())
    for spec, pipeline in pipelines.items():
        made = answered(subject, pipeline)
        report = made.report[0]
        systems.append(kept_of(spec, report, made.texts[0]))
        footage = footage or subject.footage(report.videos)
        data[spec] = {
            "budgets": systems[-1].budgets,
            "weights": None if report.frame_weights is None else rounded(report.frame_weights),
            "answer": made.texts[0],
        }
    assert footage is not None
    drawing = kept.over_footage(systems, footage, asked(subject))
    guide = f", guided by {config.assistant}" if config.assistant else ""
    merged = any(one.stands_for is not None for one in systems)
    dots = "; dots: cells that stand for several merged tokens, the larger the more" * merged
    caption = subject.caption(
        f"Visual tokens that reach the last layer, their number under each frame{guide}{dots}:"
    )
    return Made(drawing, caption, data)


def over_tokens(config: FigureConfig) -> Made:
    """Attention of each generated token to frames (DyCoke 2): the full model, then a strategy."""
    subject = Subject.of(config)
    answers, data = [], {}
    pipelines = {FULL: build("none"), config.strategy: pipeline_of(subject, config.strategy)}
    check_guided(config, pipelines.values())
    recorder = Recorder()
    for label, pipeline in pipelines.items():
        recorder = Recorder()
        made = answered(subject, pipeline, recorder)
        told = told_of(label, subject, made, recorder)
        answers.append(told)
        data[label] = {
            "mass": [rounded(token) for token in told.mass],
            "words": [*told.words],
            "changed": [*told.changed],
        }
    drawing = decoding.over_tokens(answers, escaped(asked(subject)))
    layers = len(recorder.layers)
    caption = subject.caption(
        "Attention of each generated token that falls on the visual tokens of a frame, mean over "
        f"heads and {layers} layers; triangles: the selection of cached tokens changes:"
    )
    return Made(drawing, caption, data)


KINDS: dict[str, Callable[[FigureConfig], Made]] = {
    "attention": over_frames,
    "layers": by_layer,
    "kept": over_footage,
    "decode": over_tokens,
}
STRATEGIES = {"kept": "visionzip+dytok", "decode": "dycoke"}  # where none is named


def asked(subject: Subject) -> str:
    """The question in a title."""
    return f'"{shortened(subject.sample.question, 90)}"'


def rounded(values: Any) -> list[float]:
    """As a file has them."""
    return [float(f"{float(value):.5g}") for value in values]


def escaped(text: str) -> str:
    """As matplotlib takes it for words and not for formulas."""
    return text.replace("$", r"\$")
