"""TinyVQA: questions about synthetic videos of moving shapes, generated on demand and stored
nowhere.

Each question carries a *balance* word; the test set takes categories in turn and, within a
category, balance words in turn, so that whoever reads only the question scores chance.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any, Literal

from torch import Generator, tensor

from tokenprune.errors import TaskError
from tokenprune.tasks.base import Label, Sample, Task
from tokenprune.tasks.questions import CATEGORIES, Question
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import SIZE, Scenes, draw

VERSION = 3  # raised whenever a sample or its scoring changes: older results are not reused then
MIN_FRAMES = 8  # with fewer nothing is brief, and there is no third of the video to be in


def generator(split: Literal["train", "test"], seed: int, index: int, frames: int) -> Generator:
    """The random stream of item `index`. Its lowest bit is the split: no test stream is ever a
    training stream.

    PyTorch's CPU generator reads 32 bits of its seed, hence the width.
    """
    digest = hashlib.sha256(f"{seed}/{index}/{frames}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:4], "little") & ~1 | (split == "test"))


class TinyVQA(Task, name="tinyvqa"):
    """The test set: one question per video, categories and answers balanced in turn."""

    _batch = 16  # scenes drawn at once when looking for one that has the wanted answer

    def __init__(
        self, *, samples: int | None = None, frames: int = 16, seed: int = 0, size: int = SIZE
    ) -> None:
        if frames < MIN_FRAMES:
            raise TaskError(
                f"tinyvqa asks about motion and order: frames must be at least {MIN_FRAMES}, not "
                f"{frames}"
            )
        if size < SIZE:
            raise TaskError(
                f"tinyvqa's shapes need room: size must be at least {SIZE} pixels, not {size}"
            )
        if samples is not None and samples < 1:
            raise TaskError(f"samples must be at least 1, not {samples}")
        self.frames, self.seed, self.size = frames, seed, size
        self._samples = 225 if samples is None else samples

    def __len__(self) -> int:
        return self._samples

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(CATEGORIES)

    def __getitem__(self, index: int) -> Sample:
        category, question, scenes, stream = self.scene(index)
        frames, _ = render(stream, scenes, self.size)
        metric = CATEGORIES[category].metric
        return Sample(
            self._id(index),
            question.text,
            question.answer,
            category,
            frames[0],
            question.evidence,
            metric,
        )

    def label(self, index: int) -> Label:
        category, question = self.question(index)
        return Label(self._id(index), category, question.text, question.answer)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "version": VERSION,
            "frames": self.frames,
            "seed": self.seed,
            "size": self.size,
        }

    def _id(self, index: int) -> str:
        return f"{self.name}-{self.seed}-{self.frames}-{index:05d}"

    def question(self, index: int) -> tuple[str, Question]:
        """Category and question of sample `index`, without rendering its video."""
        return self.scene(index)[:2]

    def scene(self, index: int) -> tuple[str, Question, Scenes, Generator]:
        """A category, a question of it, the scene it is asked about, and the stream that goes on to
        render it.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        turn, position = divmod(index, len(CATEGORIES))
        category = list(CATEGORIES)[position]
        kind = CATEGORIES[category]
        wanted = kind.balance[turn % len(kind.balance)]

        # The index alone drives the stream, so samples do not depend on how many there are.
        stream = generator("test", self.seed, index, self.frames)
        choice = random.Random(stream.initial_seed())
        while True:
            scenes = draw(stream, self._batch, self.frames, kind.plot)
            for row, things in enumerate(scenes.things()):
                fitting = [q for q in kind.ask(things, self.frames) if q.balance == wanted]
                if fitting:
                    return category, choice.choice(fitting), scenes.pick(tensor([row])), stream
