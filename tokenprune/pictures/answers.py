"""What a subject answers under a pipeline, and what of it figures show."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.errors import ConfigError
from tokenprune.evaluation.generate import Generated, generate
from tokenprune.evaluation.retention import retaining
from tokenprune.loading.checkpoint import load
from tokenprune.loading.processor import GREEDY
from tokenprune.options import options_of
from tokenprune.pictures import decoding, kept
from tokenprune.pictures.config import FigureConfig
from tokenprune.pictures.subject import Subject
from tokenprune.registry import build, resolve
from tokenprune.runtime.recorder import Recorder, Row
from tokenprune.runtime.report import SampleReport
from tokenprune.strategy import Pipeline


def looked(subject: Subject) -> tuple[Row, int, Generated]:
    """Attention of the prompt's last row, uncompressed, in how many layers, and the answer."""
    recorder = Recorder()
    made = answered(subject, build("none"), recorder)
    return recorder.prompt, len(recorder.layers), made


def answered(subject: Subject, pipeline: Pipeline, recorder: Recorder | None = None) -> Generated:
    """The subject's answer under a pipeline."""
    config = subject.config
    guide = None
    if config.assistant is not None and pipeline.allocator is not None:
        guide, _ = load(config.assistant, config.dtype, config.device, config)
    settings = {"max_new_tokens": config.max_new_tokens, **GREEDY}
    with torch.no_grad():
        return generate(
            subject.model,
            pipeline,
            subject.processor,
            subject.inputs(),
            settings,
            assistant=guide,
            recorder=recorder,
        )


def pipeline_of(subject: Subject, spec: str) -> Pipeline:
    """A pipeline at the budget that is asked for, checked against the model."""
    config, extent = subject.config, subject.seen.extent(len(subject.sample.frames))
    options = options_of(spec, config.options)
    pipeline = resolve(spec, options, seed=config.seed).check(extent.depth)
    if config.keep is None or not pipeline.strategies:
        return pipeline
    return retaining(pipeline, config.keep, extent, options)


def check_guided(config: FigureConfig, pipelines: Iterable[Pipeline]) -> None:
    """ConfigError for an assistant that would guide nothing."""
    if config.assistant is not None and all(one.allocator is None for one in pipelines):
        raise ConfigError(
            f"assistant={config.assistant} guides an allocator, and {config.strategy} has none: "
            f"write strategy={config.strategy}+dytok, or leave it out"
        )


def kept_of(label: str, report: SampleReport, answer: str) -> kept.Kept:
    """What a report says that was kept."""
    grids = [(video.height, video.width) for video in report.videos for _ in range(video.frames)]
    return kept.Kept(
        label,
        report.slots,
        grids,
        answer,
        report.frame_weights,
        merged_into(report),
        report.merged,
        report.layer_average_ratio,
    )


def merged_into(report: SampleReport) -> list[list[int]] | None:
    """How many tokens each kept cell stands for, where a report tells.

    None where nothing was merged, or where a stage inside the language model dropped rows, so that
    members count others than those that are left.
    """
    if len(report.members) != 1 or report.layers[0] != report.layers[-1]:
        return None
    into = report.members[0]
    number: Int[Tensor, "n"] = torch.bincount(into[into >= 0], minlength=report.kept)
    return [part.tolist() for part in number.split([len(cells) for cells in report.slots])]


def told_of(label: str, subject: Subject, made: Generated, recorder: Recorder) -> decoding.Told:
    """Of each generated token that was read again, its word and where it looked."""
    report = made.report[0]
    steps = recorder.steps[: made.lengths[0] - 1]
    if not steps:
        raise ConfigError(
            f'the answer of the {label}, "{made.texts[0]}", is one token, and the figure is about '
            "those that follow: ask for a description, or for a longer answer (max_new_tokens=)"
        )
    mass: Float[Tensor, "n f"] = torch.stack([step.mass[0].mean(0) for step in steps])
    changed = [False, *(bool(change) for change in report.changes)]
    ids = made.ids[0, : len(steps)].tolist()
    words = [str(subject.processor.tokenizer.decode([token])) for token in ids]
    return decoding.Told(label, mass, words, (changed + [False] * len(steps))[: len(steps)])
