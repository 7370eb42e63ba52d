"""The clips that the demo can be asked about without a file: samples of the embedded benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tokenprune.tasks import Sample
from tokenprune.tasks.clip import Clip
from tokenprune.tasks.tinyvqa import TinyVQA

FIRST = "needle"  # the category where frames matter most: shown first
FRAMES = 16
_EACH = 2  # clips of a category


def embedded(frames: int | None, seed: int) -> Mapping[str, Sample]:
    """A few clips of each category by the name under which they are offered. Raises TaskError."""
    task = TinyVQA(frames=frames or FRAMES, seed=seed)
    places = range(min(_EACH * len(task.categories), len(task)))
    # those of one category together, the first one's in front
    order = sorted(places, key=lambda place: (task.label(place).category != FIRST, place))
    return {_name(task, place): task[place] for place in order}


def _name(task: TinyVQA, place: int) -> str:
    label = task.label(place)
    return f"{label.category.replace('_', ' ')}: {label.question} ({place})"


def asked(sample: Sample, question: str) -> Sample:
    """The sample with a question of the user's; whose right answer is not known."""
    if question == sample.question:
        return sample
    return replace(sample, question=question, answer="", evidence=(), options=(), category="")


def uploaded(path: str, question: str, frames: int) -> Sample:
    """A video file with a question about it. Raises VideoError."""
    return Clip(path, question, frames)[0]
