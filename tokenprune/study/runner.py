"""What one process needs to run cells: models and samples, made once for all of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from tokenprune import tasks
from tokenprune.errors import ConfigError
from tokenprune.evaluation.conditions import Loop
from tokenprune.evaluation.figures import figures_of
from tokenprune.evaluation.fitting import BatchSize, batch_size
from tokenprune.evaluation.loop import evaluate
from tokenprune.evaluation.run import prompt_of
from tokenprune.loading.checkpoint import load
from tokenprune.loading.device import pick_device
from tokenprune.loading.processor import Processor
from tokenprune.loading.spread import is_placed
from tokenprune.results.answer import Answer
from tokenprune.results.system import System
from tokenprune.study.cell_files import role_of
from tokenprune.study.config import SELF, CellConfig, StudyConfig
from tokenprune.study.plan import Cell
from tokenprune.tasks import Task
from tokenprune.tasks.cached import Kept

_SPARE = 2 << 30  # bytes of frames kept per process


def build_task(config: CellConfig) -> Task:
    """The study's task; TaskError where there is none."""
    assert config.frames is not None  # settled
    return tasks.build(
        config.task,
        samples=config.samples,
        frames=config.frames,
        seed=config.seed,
        sampling=config.sampling,
        short=config.short,
        include_path=config.include_path,
        judge=config.judge,
    )


class Runner:
    """Runs cells one after the other.

    Models are loaded and samples made when the first cell asks for them.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self._assistants: dict[str, PreTrainedModel] = {}
        self._size: BatchSize | None = None

    @cached_property
    def task(self) -> Task:
        return Kept(build_task(self.config), _SPARE, self.config.limit)

    @cached_property
    def subject(self) -> tuple[PreTrainedModel, Processor]:
        return load(self.config.model, self.config.dtype, self.config.device, self.config)

    @cached_property
    def processor(self) -> Processor:
        return Processor.load(self.config.model, self.config)

    def run(self, cell: Cell) -> list[Answer]:
        """One answer per sample, in the task's order. ConfigError where a right one is unknown."""
        assert cell.pipeline is not None
        config, system = self.config, System(role_of(cell.pipeline), cell.label, cell.pipeline)
        assert config.max_new_tokens is not None  # settled
        model, processor = self.subject
        assistant, device = self._assistant(cell.guided_by), pick_device(config.device)
        for moved in (model, assistant):
            if moved is not None and not is_placed(moved):
                moved.to(device)  # pyright: ignore[reportArgumentType]  Lightning left it on the CPU
        longest, seed = config.max_new_tokens, config.seed
        loop = Loop(alike=True, max_new_tokens=longest, seed=seed)
        # what fits the first cell, the full model mostly, is what all are run with
        self._size = self._size or batch_size(config.batch_size, device.type, cell.extent)
        # the study shows its own progress, and other processes have bars too
        with redirect_stderr(io.StringIO()):
            done = evaluate(
                model,
                processor,
                self.task,
                [system],
                loop,
                assistant=assistant,
                size=self._size,
            )
        assert done is not None  # this is the first process of its own
        answers = list(done[0].answers)
        check_scored(answers)
        return answers

    def settled(self) -> dict[str, Any]:
        """What the environment of the last cell has besides: how many samples were in a batch."""
        if self._size is None or not self._size.shrinks:
            return {}
        return {"batch_size": self._size.as_dict()}

    def prompts(self, answers: Sequence[Answer]) -> dict[str, str]:
        """The chat turn of every sample, by its id."""
        return {answer.id: prompt_of(self.processor, answer) for answer in answers}

    def figures(self, answers: Sequence[Answer]) -> Mapping[str, Any]:
        """The benchmark's own, if it has any."""
        return figures_of(self.task, answers)

    def _assistant(self, name: str | None) -> PreTrainedModel | None:
        if name is None or name == SELF:
            return None
        if name not in self._assistants:
            config = self.config
            self._assistants[name] = load(name, config.dtype, config.device, config)[0]
        return self._assistants[name]


def check_scored(answers: Sequence[Answer]) -> None:
    """ConfigError where a sample was answered and its right answer is not known."""
    for answer in answers:
        if answer.error is None and answer.score is None:
            raise ConfigError(
                f"the right answer of sample {answer.id} is not known: a study needs scores"
            )
