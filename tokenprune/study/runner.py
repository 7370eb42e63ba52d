"""What one process needs to run cells: models and samples, made once for all of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from tokenprune import tasks
from tokenprune.errors import ConfigError
from tokenprune.evaluation.loop import Loop, evaluate
from tokenprune.loading.checkpoint import load
from tokenprune.loading.device import pick_device
from tokenprune.loading.processor import Processor
from tokenprune.results.answer import Answer
from tokenprune.results.system import System
from tokenprune.study.config import SELF, StudyConfig
from tokenprune.study.plan import Cell
from tokenprune.tasks import Task
from tokenprune.tasks.cached import Kept

_SPARE = 2 << 30  # bytes of frames kept per process


def build_task(config: StudyConfig) -> Task:
    """The study's task; TaskError where there is none."""
    assert config.frames is not None  # settled
    return tasks.build(
        config.task,
        samples=config.samples,
        frames=config.frames,
        seed=config.seed,
        sampling=config.sampling,
    )


class Runner:
    """Runs cells one after the other; models are loaded and samples made when the first cell asks
    for them.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self._assistants: dict[str, PreTrainedModel] = {}

    @cached_property
    def task(self) -> Task:
        return Kept(build_task(self.config), _SPARE, self.config.limit)

    @cached_property
    def subject(self) -> tuple[PreTrainedModel, Processor]:
        return load(self.config.model, self.config.dtype, self.config.device)

    def run(self, cell: Cell) -> list[dict[str, Any]]:
        """One record per sample."""
        assert cell.pipeline is not None
        config, system = self.config, System(cell.slug, cell.label, cell.pipeline)
        model, processor = self.subject
        assistant, place = self._assistant(cell.guided_by), pick_device(config.device)
        for moved in (model, assistant):
            if moved is not None:
                moved.to(place)  # pyright: ignore[reportArgumentType]  Lightning left it on the CPU
        # the study shows its own progress, and other processes have bars too
        with redirect_stderr(io.StringIO()):
            assert config.max_new_tokens is not None  # settled
            loop = Loop(config.batch_size, max_new_tokens=config.max_new_tokens, seed=config.seed)
            done = evaluate(model, processor, self.task, [system], loop, assistant=assistant)
        assert done is not None  # this is the first process of its own
        return records(done[0].answers, self.task)

    def _assistant(self, name: str | None) -> PreTrainedModel | None:
        if name is None or name == SELF:
            return None
        if name not in self._assistants:
            self._assistants[name] = load(name, self.config.dtype, self.config.device)[0]
        return self._assistants[name]


def records(answers: Sequence[Answer], task: Task) -> list[dict[str, Any]]:
    """What statistics need of each sample, and its prediction; of one that could not be evaluated,
    why.
    """
    found = []
    for answer in answers:
        whose = {"id": answer.id, "category": answer.category}
        whose |= {} if answer.group is None else {"group": answer.group}
        if answer.error is not None:
            found.append({**whose, "error": answer.error})
            continue
        if answer.score is None:
            raise ConfigError(
                f"nobody knows the answer of sample {answer.id}: a study needs scores"
            )
        evidence, tokens = task[answer.index].evidence, answer.tokens
        found.append(
            {
                **whose,
                "prediction": answer.prediction,
                "score": answer.score,
                **{
                    name: tokens[name]
                    for name in ("input_ratio", "layer_average_ratio", "decode_ratio")
                },
                "flops_ratio": answer.flops_ratio,
                **({"evidence": list(evidence)} if evidence else {}),
                **(
                    {"frame_weights": weights}
                    if (weights := tokens.get("frame_weights")) is not None
                    else {}
                ),
            }
        )
    return found
