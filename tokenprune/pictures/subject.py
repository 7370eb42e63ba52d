"""The sample that a figure is about, and the model that looks at it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenprune import tasks
from tokenprune.checkpoints import note
from tokenprune.errors import ConfigError
from tokenprune.evaluation.config import FILE_FRAMES, default_frames
from tokenprune.evaluation.extent import Uncompressed, check_context, uncompressed
from tokenprune.loading.checkpoint import configuration, load
from tokenprune.loading.processor import Processor
from tokenprune.pictures.config import FigureConfig
from tokenprune.pictures.footage import Footage, footage_of
from tokenprune.tasks import Sample, Task
from tokenprune.tasks.clip import Clip
from tokenprune.tokens import Video

NEEDLE = "needle"  # the category of the embedded task whose evidence is known


@dataclass(frozen=True)
class Subject:
    """A model with its processor, and one sample as it sees it."""

    config: FigureConfig
    name: str  # of the model
    read: Callable[[], PreTrainedModel]  # its weights, once
    processor: Processor
    seen: Uncompressed
    sample: Sample

    @classmethod
    def of(cls, config: FigureConfig, name: str | None = None) -> Subject:
        """`name` is the model that looks, the configuration's own by default.

        Weights are not read yet. Raises TokenpruneError.
        """
        name = name or config.model
        task = task_of(config)
        sample = task[place_of(task, config.sample, config.category)]
        settings = configuration(name, config)
        processor = Processor.load(name, config)
        seen = uncompressed(settings, processor, lambda: task)
        question = processor.told(sample.full_question, sample.times, sample.duration)
        frames = len(sample.frames)
        text = processor.text_tokens(question, seen.video(frames))
        check_context(name, seen, frames, text, config.max_new_tokens)
        read = cache(lambda: load(name, config.dtype, config.device, config)[0])
        return cls(config, name, read, processor, seen, sample)

    @property
    def model(self) -> PreTrainedModel:
        """Read when it is first asked for."""
        return self.read()

    def showing(self, frames: Tensor) -> Subject:
        """The same question about other frames."""
        other = replace(self.sample, frames=frames, evidence=(), media=(), answer="")
        return replace(self, sample=other)

    def inputs(self) -> dict[str, Tensor]:
        """What the model is called with."""
        sample = self.sample
        told = self.processor.told(sample.full_question, sample.times, sample.duration)
        device = self.model.device
        encoded = self.processor.encode([(sample.shown, told)])
        return {name: part.to(device) for name, part in encoded.items()}

    def footage(self, videos: Sequence[Video]) -> Footage:
        """The frames as the language model got them."""
        return footage_of(self.sample, [one.frames for one in videos], self.processor.pixels)

    def caption(self, what: str) -> str:
        """`what` is drawn, and of whom: a paragraph below a figure."""
        sample, config = self.sample, self.config
        right = f" (right answer: {sample.answer})" if sample.answer else ""
        where = f"video {config.video}" if config.video else f"sample {sample.id}"
        warning = note(self.name, config.model, config.assistant)
        text = f'{what} {self.name}, {where}: "{sample.question}"{right}.'
        return f"{text} {warning}" if warning else text


def task_of(config: FigureConfig) -> Task:
    """What the sample is taken from. Raises TaskError, VideoError."""
    if config.video is not None and config.question is not None:
        frames = config.frames or FILE_FRAMES
        return Clip(config.video, config.question, frames, config.sampling, config.short)
    return tasks.build(
        config.task,
        samples=None,
        frames=config.frames or default_frames(config.task),
        seed=config.seed,
        sampling=config.sampling,
        short=config.short,
    )


def place_of(task: Task, sample: str | None, category: str | None = None) -> int:
    """The place of a sample in its task: by id or number, else the first of a category, the one
    whose evidence is known where the task has it.

    ConfigError names what is near.
    """
    if sample is not None:
        return found(sample, [task.label(place).id for place in range(len(task))])
    wanted = category or (NEEDLE if NEEDLE in task.categories else None)
    if wanted is None:
        return 0
    places = range(len(task)) if wanted in task.categories else ()
    place = next((place for place in places if task.label(place).category == wanted), None)
    if place is None:
        raise ConfigError(
            f"{task.name} has no sample of category {wanted}: write category= one of "
            f"{', '.join(task.categories)}"
        )
    return place


def found(sample: str, ids: Sequence[str]) -> int:
    """The place of an id, or of a number. ConfigError names the nearest one."""
    if sample in ids:
        return ids.index(sample)
    if sample.isdecimal() and int(sample) < len(ids):
        return int(sample)
    near = difflib.get_close_matches(sample, ids, n=1, cutoff=0.3)
    hint = near[0] if near else ids[0]
    raise ConfigError(
        f"sample={sample} is none of the {len(ids)} samples: write an id, as in sample={hint}, or "
        f"a number from 0 to {len(ids) - 1}"
    )


def without_content(frames: Tensor, seed: int) -> Mapping[str, Tensor]:
    """Black, white and noise in place of the frames of a video (DyToK, figure 9)."""
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, frames.shape, generator=stream, dtype=torch.uint8)
    black = torch.zeros_like(frames)
    return {"black": black, "white": black + 255, "noise": noise}
