"""What a task is: videos with a question each, and a metric for its answer."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from tokenprune.errors import TaskError
from tokenprune.loading.media import Media, Medium, media_of
from tokenprune.lookup import TASKS
from tokenprune.tasks.choice import asked, chosen, multiple_choice
from tokenprune.tasks.metrics import METRICS

READ, EMPTY, UNPARSED, GUESSED = "read", "empty", "unparsed", "guessed"  # see `Task.reading`


@dataclass(frozen=True)
class Sample:
    """One video, one question, the answer expected."""

    id: str
    question: str
    answer: str
    category: str
    frames: Tensor  # uint8 [f h w 3], RGB
    # the frames without which nobody can answer, where that is known
    evidence: tuple[int, ...] = ()
    metric: str = (
        "exact_match"  # a name in metrics.METRICS; multiple_choice where there are options
    )
    # of a multiple-choice question; `answer` is the text of one of them
    options: tuple[str, ...] = ()
    # samples of one group, such as questions about one video, are not independent
    group: str | None = None
    # seconds at which the frames appear in their video file, where known
    times: tuple[float, ...] | None = None
    duration: float | None = None  # seconds of the whole video, where known
    # where the prompt shows more than one video: all of it in order, images [h w 3] too; `frames`,
    # `times` and `duration` are those of the first video
    media: tuple[Tensor | Medium, ...] = ()

    @property
    def shown(self) -> Media:
        """What the prompt shows."""
        return self.media or Medium(self.frames, self.times)

    @property
    def nbytes(self) -> int:
        """Of all its pixels."""
        parts = (one.frames if isinstance(one, Medium) else one for one in media_of(self.shown))
        return sum(part.nbytes for part in parts)

    @property
    def full_question(self) -> str:
        """What the model is asked: with options, also these and how to answer."""
        return asked(self.question, self.options)


class Label(NamedTuple):
    """A sample without its video: what a record of it says even where the video cannot be read."""

    id: str
    category: str
    question: str
    answer: str
    options: tuple[str, ...] = ()
    group: str | None = None  # as of its `Sample`; None: a group of its own


class Task(ABC):
    """A map-style data set: `task[i]` is a pure function of the arguments the task was built with
    and of `i`.

    Subclassing with a name registers: `class Shapes(Task, name="shapes")` is `task=shapes`. `build`
    calls such a class with `samples` (how many, None: as many as it has by default), `frames` (of
    each) and `seed`, by keyword. One that also takes `sampling` reads video files, and is told how
    to choose frames, see `video.read_clip`, and so is one that takes `short`; one that takes `size`
    draws its videos at any height and width, which `tokenprune data export` may ask for.
    """

    name: str
    max_new_tokens: int | None = None  # the longest answer that a benchmark allows, if it says so

    def __init_subclass__(cls, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is None:  # not registered: made by its class
            return
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise TaskError(f"{name!r} is not a task name: write letters, digits, _, - and .")
        TASKS.add(name, cls)
        cls.name = name

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category its samples may have; the task's own name where it has one kind of
        question.
        """
        return (self.name,)

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; the same one in every process and on every call."""

    @abstractmethod
    def label(self, index: int) -> Label:
        """Sample `index` without its video, quickly."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Plain values that change whenever a sample, its video or its scoring does: what results
        may be reused for.
        """

    def metrics(self, predictions: Mapping[int, str]) -> dict[str, float]:
        """A benchmark's own figures over all answers, by sample; those besides the mean score, if
        it has any.
        """
        return {}

    def score(self, prediction: str, sample: Sample) -> float:
        """How right `prediction` is, in [0, 1]; nan where that is not known."""
        if sample.options:
            return multiple_choice(prediction, sample.answer, sample.options)
        return METRICS[sample.metric](prediction, sample.answer)

    def is_of(self, index: int, part: Mapping[str, Any]) -> bool:
        """Whether sample `index` belongs to a part of the task, such as {"category": "colour"}.

        Raises TaskError for a part that it does not have.
        """
        if set(part) != {"category"}:
            raise TaskError(f"{self.name} has no part {dict(part)}: its parts are categories")
        return self.label(index).category == part["category"]

    def verdict(self, prediction: str, sample: Sample) -> Mapping[str, Any] | None:
        """What a paid judge made of `prediction`, as plain values, which are kept with the answer.

        None where nobody was asked.
        """
        return None

    def recall(  # noqa: B027  most tasks have nothing to recall
        self, sample_id: str, prediction: str, verdict: Mapping[str, Any]
    ) -> None:
        """Takes a `verdict` that was kept, so that `metrics` need not ask the judge again."""

    def reading(self, prediction: str, sample: Sample) -> str:
        """What `score` could make of `prediction`.

        READ: it was taken as it stands. EMPTY: there is nothing in it. UNPARSED: no option can be
        read from it, so it counts as wrong. GUESSED: a benchmark's own code could not read it and
        drew an answer at random.
        """
        if not prediction.strip():
            return EMPTY
        return UNPARSED if sample.options and chosen(prediction, sample.options) is None else READ
