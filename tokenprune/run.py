"""A run from its configuration to its results: everything that can fail early does so before weights are loaded."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenprune import registry, tasks
from tokenprune.config import ConfigError, RunConfig
from tokenprune.evaluate import evaluate
from tokenprune.loading import configuration, load
from tokenprune.models import names as embedded
from tokenprune.outcome import System
from tokenprune.record import environment, results_folder, write
from tokenprune.resolve import resolve
from tokenprune.summary import summarise
from tokenprune.tasks import Sample, Task
from tokenprune.video import read_frames

FILE_FRAMES, TASK_FRAMES = 32, 16
NOTE = (
    "tiny is the embedded model: these figures show how a strategy behaves and that every part works; "
    "they are not the papers' results."
)


@dataclass(frozen=True)
class Finished:
    """A run that is on disk."""

    folder: Path
    summary: dict[str, Any]
    systems: list[System]


class Clip(Task):
    """One video file and one question about it, whose answer nobody knows: its score is nan."""

    name = "video"

    def __init__(self, path: str, question: str, frames: int) -> None:
        self._sample = Sample(Path(path).name, question, "", self.name, read_frames(path, frames))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return self._sample

    def score(self, prediction: str, sample: Sample) -> float:
        return math.nan


def run(config: RunConfig, command: str) -> Finished:
    """Evaluates the strategy, the full model and `random` at the same measured budget, and writes the results.

    Raises ConfigError, StrategyError, VideoError, LoadingError, UnsupportedModelError, OSError; then nothing is left.
    """
    pipeline = resolve(config)
    with results_folder(config.out, str(pipeline)) as (draft, final):
        settings = configuration(config.model)
        pipeline.check(settings.get_text_config().num_hidden_layers)
        if config.assistant is not None:
            configuration(config.assistant)
        task, config = _task(config)
        model, processor = load(config.model, config.dtype, config.device)
        assistant = None if config.assistant is None else load(config.assistant, config.dtype, config.device)[0]
        place = environment(model.device, model.dtype, command)  # Lightning takes the model back to the CPU
        systems = [System("vanilla", "vanilla", registry.build("none"))]
        if pipeline.strategies:
            systems.append(System("own", str(pipeline), pipeline))
        if str(pipeline) not in ("none", "random"):
            systems.append(System("random", "random", None))
        evaluate(
            model,
            processor,
            task,
            systems,
            assistant=assistant,
            batch_size=config.batch_size,
            limit=config.limit,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
        )
        summary = {
            "spec": str(pipeline),
            "options": config.options,
            "model": config.model,
            "assistant": config.assistant,
            "task": config.task if config.video is None else None,
            "video": config.video,
            "question": config.question,
            "frames": config.frames,
            **summarise(systems, config.seed),
            **({"note": NOTE} if config.model in embedded() else {}),
            "environment": place,
        }
        prompts = {outcome.id: processor.prompt(outcome.question) for outcome in systems[0].outcomes}
        write(draft, summary, systems, prompts, config)
    return Finished(final, summary, systems)


def _task(config: RunConfig) -> tuple[Task, RunConfig]:
    """What is asked, and the configuration with the number of frames it settled on."""
    if config.video is not None and config.question is not None:
        clip = Clip(config.video, config.question, config.frames or FILE_FRAMES)
        return clip, dataclasses.replace(config, frames=len(clip[0].frames))
    frames = config.frames or TASK_FRAMES
    try:
        task = tasks.build(config.task, samples=config.samples, frames=frames, seed=config.seed)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return task, dataclasses.replace(config, frames=frames)
