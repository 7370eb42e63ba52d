"""A run before weights are loaded: its samples, its budget, its code, and whether they fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tokenprune import registry, tasks
from tokenprune.adapters import families
from tokenprune.checkpoints import note
from tokenprune.errors import ConfigError
from tokenprune.evaluation.conditions import Loop
from tokenprune.evaluation.config import LONGEST, RunConfig
from tokenprune.evaluation.extent import check_context, longest_text, questions_of, uncompressed
from tokenprune.evaluation.retention import retaining
from tokenprune.loading.checkpoint import configuration, outline, settled
from tokenprune.loading.device import cores
from tokenprune.loading.processor import Processor
from tokenprune.loading.variant import CHOICES
from tokenprune.results import provenance
from tokenprune.results.answer import RANDOM, STRATEGY, VANILLA
from tokenprune.results.summary import Setting
from tokenprune.results.system import System
from tokenprune.runtime.tower_stage import check_tower
from tokenprune.strategy import Extent, Pipeline
from tokenprune.tasks import Task
from tokenprune.tasks.clip import Clip


@dataclass(frozen=True)
class Plan:
    """Everything that a run does, with the numbers it settled on."""

    config: RunConfig
    pipeline: Pipeline  # checked against the model, at the budget that was asked for
    task: Task
    frames: int
    extent: Extent  # of a prompt with so many
    max_new_tokens: int
    strategies: provenance.Code
    around: provenance.Code  # the task's, and that of this package

    @property
    def code(self) -> provenance.Code:
        return self.strategies | self.around

    @property
    def models(self) -> list[str]:
        config = self.config
        return [config.model] if config.assistant is None else [config.model, config.assistant]

    @property
    def size(self) -> int:
        """How many samples are evaluated."""
        return min(len(self.task), self.config.limit or len(self.task))

    @property
    def about(self) -> str:
        """What is asked about, as the user named it."""
        return self.config.video or self.config.task

    @property
    def given(self) -> dict[str, Any]:
        """The run's keys as they are written down; where it goes is where the file is."""
        settled = dataclasses.replace(
            self.config, frames=self.frames, max_new_tokens=self.max_new_tokens
        )
        keys = dataclasses.asdict(settled)
        return {key: value for key, value in keys.items() if key not in ("out", "resume")}

    @property
    def setting(self) -> Setting:
        config = self.config
        drawn = config.video is None and tasks.draws(config.task)
        return Setting(
            spec=str(self.pipeline),
            options=config.options,
            keep=config.keep,
            model=config.model,
            assistant=config.assistant,
            task=config.task if config.video is None else None,
            video=config.video,
            question=config.question,
            frames=self.frames,
            seed=config.seed,
            sampling=None if drawn else config.sampling,
            short=None if drawn else config.short,
            judge=config.judge,
            note=note(config.model, config.assistant),
            **{name: getattr(config, name) for name in CHOICES},
        )

    @property
    def systems(self) -> list[System]:
        """In the order of evaluation: the control needs to know what the strategy keeps."""
        spec = str(self.pipeline)
        vanilla = System(VANILLA, VANILLA, registry.build("none"))
        if not self.pipeline.strategies:
            return [vanilla]
        if spec == RANDOM:
            return [vanilla, System(RANDOM, spec, self.pipeline)]
        return [vanilla, System(STRATEGY, spec, self.pipeline), System(RANDOM, RANDOM, None)]

    def loop(self, trainer: dict[str, Any]) -> Loop:
        config = self.config
        return Loop(
            limit=config.limit,
            max_new_tokens=self.max_new_tokens,
            seed=config.seed,
            workers=_workers(config),
            images=config.images,
            stop_on_error=config.on_error == "stop" or config.video is not None,
            trainer=trainer,
        )


def plan_run(config: RunConfig, pipeline: Pipeline) -> Plan:
    """Raises TokenpruneError where the run would fail later."""
    settings = configuration(config.model, config)
    pipeline.check(settings.get_text_config().num_hidden_layers)
    family = families()[settings.model_type]
    family.check_signals(pipeline.signals, str(pipeline))
    if pipeline.tower_stage is not None:
        check_tower(outline(settings), pipeline)
    if config.assistant is not None:
        configuration(config.assistant, config)
    _check_clock(config)
    task = task_of(config)
    frames = len(task[0].frames) if config.video is not None else config.frames_requested
    longest = config.max_new_tokens or task.max_new_tokens or LONGEST
    processor = Processor.load(config.model, config)
    config = settled(config, settings, processor)
    seen = uncompressed(settings, processor, lambda: task)
    text = longest_text(processor, questions_of(task, config.limit), seen, frames)
    check_context(config.model, seen, frames, text, longest)
    extent = seen.extent(frames)
    if config.keep is not None:
        pipeline = retaining(pipeline, config.keep, extent, config.options)
    strategies = provenance.code_of_pipeline(pipeline) | provenance.code_of(registry.get(RANDOM))
    around = provenance.code_of_package() | provenance.code_of(type(task), family)
    return Plan(config, pipeline, task, frames, extent, longest, strategies, around)


def _check_clock(config: RunConfig) -> None:
    """ConfigError where frames are asked for their times and have none."""
    if config.time_instruction and config.video is None and tasks.draws(config.task):
        raise ConfigError(
            f"the frames of {config.task} are drawn and have no times: leave time_instruction= "
            "out, or ask about video files"
        )


def task_of(config: RunConfig) -> Task:
    """What a run asks about. Raises TaskError, VideoError."""
    if config.video is not None and config.question is not None:
        chosen = (config.frames_requested, config.sampling, config.short)
        return Clip(config.video, config.question, *chosen)
    return tasks.build(
        config.task,
        samples=config.samples,
        frames=config.frames_requested,
        seed=config.seed,
        sampling=config.sampling,
        short=config.short,
        include_path=config.include_path,
        judge=config.judge,
    )


def _workers(config: RunConfig) -> int:
    """Processes that decode; what a task makes itself is made faster than sent."""
    if config.workers is not None or config.video is not None or tasks.draws(config.task):
        return config.workers or 0
    return max(1, min(4, cores() - 1))
