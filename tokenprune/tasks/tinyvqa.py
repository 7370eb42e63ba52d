"""TinyVQA: questions about synthetic videos of moving shapes, generated on demand and stored
nowhere.

A family of questions is one function from the objects of a video to all the questions that can be
asked about it, and one line of `FAMILIES`. Each question carries a *balance* word; the test set
takes families in turn and, within a family, balance words in turn, so that whoever reads only the
question scores chance.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from torch import Generator, tensor

from tokenprune.errors import TaskError
from tokenprune.tasks.base import Label, Sample, Task
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import (
    COLOURS,
    CROWD,
    DIRECTIONS,
    SHAPES,
    SIZE,
    THIRDS,
    Scenes,
    Thing,
    draw,
)

VERSION = 2  # raised whenever a sample or its scoring changes: older results are not reused then
MIN_FRAMES = 8  # with fewer nothing is brief, and there is no third of the video to be in


class Question(NamedTuple):
    """A question, its answer, the word over which its family is balanced, and the frames it cannot
    do without.
    """

    text: str
    answer: str
    balance: str
    evidence: tuple[int, ...] = ()  # where it is known


Ask = Callable[[Sequence[Thing], int], list[Question]]


class Family(NamedTuple):
    """One kind of question: how to ask it (things of a video, number of frames) and its balance
    words.
    """

    ask: Ask
    balance: tuple[str, ...]
    metric: str = "exact_match"

    @property
    def chance(self) -> float:
        """Expected score of a reader of the question alone."""
        return 1 / len(self.balance)


def _plain(things: Sequence[Thing]) -> list[Thing]:
    return [thing for thing in things if thing.plain]


def _existence(things: Sequence[Thing], frames: int) -> list[Question]:
    """Absent pairs recombine a colour and a shape that are both there, if there is company:
    binding, not presence.
    """
    known = [t for t in things if t.plain or t.needle or t.guest]
    there = {(t.colour, t.shape) for t in known}
    crossed = {(a.colour, b.shape) for a, b in itertools.permutations(known, 2)}
    lonely = {
        (c, s) for c in COLOURS for s in SHAPES if (c == things[0].colour) != (s == things[0].shape)
    }
    absent = (crossed or lonely) - there if len(known) == len(things) or crossed else set()
    asked = [((t.colour, t.shape), "yes") for t in _plain(things)] + [
        (pair, "no") for pair in sorted(absent)
    ]
    return [
        Question(f"Is there a {colour} {shape}?", answer, answer)
        for (colour, shape), answer in asked
    ]


def _colour(things: Sequence[Thing], frames: int) -> list[Question]:
    return [Question(f"What colour is the {t.shape}?", t.colour, t.colour) for t in _plain(things)]


def _shape(things: Sequence[Thing], frames: int) -> list[Question]:
    return [
        Question(f"What shape is the {t.colour} one?", t.shape, t.shape) for t in _plain(things)
    ]


def _count(things: Sequence[Thing], frames: int) -> list[Question]:
    """Counts everything that is ever visible; videos with a needle are left to the needle family."""
    number = str(len(things))
    return (
        []
        if any(t.needle for t in things)
        else [Question("How many shapes are there?", number, number)]
    )


def _direction(things: Sequence[Thing], frames: int) -> list[Question]:
    moving = [t for t in _plain(things) if t.last > t.first]
    return [
        Question(f"Which way does the {t.colour} one move?", t.direction, t.direction)
        for t in moving
    ]


def _order(things: Sequence[Thing], frames: int) -> list[Question]:
    """Asked only of pairs whose first frames are at least an eighth of the video apart."""
    gap = max(1, frames // 8)
    return [
        Question(
            f"Which came first, the {a.colour} or the {b.colour} one?",
            min(a, b, key=_first).colour,
            place,
        )
        for a, b in itertools.permutations(_plain(things), 2)
        if abs(a.first - b.first) >= gap
        for place in ["former" if a.first < b.first else "latter"]
    ]


def _first(thing: Thing) -> int:
    return thing.first


def _state(things: Sequence[Thing], frames: int) -> list[Question]:
    turned = [t for t in things if t.becomes != t.colour]
    return [
        Question(f"What colour does the {t.shape} become?", t.becomes, t.becomes) for t in turned
    ]


def _when(things: Sequence[Thing], frames: int) -> list[Question]:
    """A guest is visible within one third of the video only."""
    guests = [(t, THIRDS[t.first * len(THIRDS) // frames]) for t in things if t.guest]
    return [
        Question(f"When is the {t.colour} one there?", third, third, _presence(t))
        for t, third in guests
    ]


def _needle(things: Sequence[Thing], frames: int) -> list[Question]:
    """The colour question, about an object that is visible in one or two frames only."""
    brief = [t for t in things if t.needle]
    return [
        Question(f"What colour is the {t.shape}?", t.colour, t.colour, _presence(t)) for t in brief
    ]


def _presence(thing: Thing) -> tuple[int, ...]:
    return tuple(range(thing.first, thing.last + 1))


def _small(things: Sequence[Thing], frames: int) -> list[Question]:
    return [
        Question("What colour is the small one?", t.colour, t.colour) for t in things if t.small
    ]


def _describe(things: Sequence[Thing], frames: int) -> list[Question]:
    """Everything that happens, in order; balanced over the number of events.

    Objects that are there from the first frame appear then; at the same moment the order is that of
    COLOURS. Small objects are left out of such videos: nobody should have to name their shape.
    """
    if any(t.small for t in things):
        return []
    events = [(t.first, COLOURS.index(t.colour), f"{t.colour} {t.shape} appears") for t in things]
    turned = [t for t in things if t.becomes != t.colour]
    events += [
        (t.turn, COLOURS.index(t.colour), f"{t.colour} {t.shape} turns {t.becomes}") for t in turned
    ]
    gone = [t for t in things if t.last < frames - 1]
    events += [
        (t.last + 1, COLOURS.index(t.becomes), f"{t.becomes} {t.shape} leaves") for t in gone
    ]
    if not EVENTS[0] <= len(events) <= EVENTS[-1]:
        return []
    return [
        Question(
            "Describe the video.",
            ", ".join(text for *_, text in sorted(events)) + ".",
            str(len(events)),
        )
    ]


EVENTS = (4, 5, 6, 7, 8)  # numbers of events of a description: 16 to 40 tokens
SHORT: dict[str, Family] = {
    "existence": Family(_existence, ("yes", "no")),
    "colour": Family(_colour, COLOURS),
    "shape": Family(_shape, SHAPES),
    "count": Family(_count, tuple(str(n + 1) for n in range(CROWD))),
    "direction": Family(_direction, DIRECTIONS),
    "order": Family(_order, ("former", "latter")),
    "state": Family(_state, COLOURS),
    "when": Family(_when, THIRDS),
    "needle": Family(_needle, COLOURS),
    "small": Family(_small, COLOURS),
}
FAMILIES: dict[str, Family] = {
    **SHORT,
    "describe": Family(_describe, tuple(map(str, EVENTS)), "event_f1"),
}


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
        self._samples = 220 if samples is None else samples

    def __len__(self) -> int:
        return self._samples

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(FAMILIES)

    def __getitem__(self, index: int) -> Sample:
        category, question, scenes, stream = self._pick(index)
        frames, _ = render(stream, scenes, self.size)
        metric = FAMILIES[category].metric
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
        """Family and question of sample `index`, without rendering its video."""
        return self._pick(index)[:2]

    def _pick(self, index: int) -> tuple[str, Question, Scenes, Generator]:
        """A family, a question of it, the scene it is asked about, and the stream that goes on to
        render it.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        turn, position = divmod(index, len(FAMILIES))
        category = list(FAMILIES)[position]
        family = FAMILIES[category]
        wanted = family.balance[turn % len(family.balance)]

        # The index alone drives the stream, so samples do not depend on how many there are.
        stream = generator("test", self.seed, index, self.frames)
        choice = random.Random(stream.initial_seed())
        while True:
            scenes = draw(stream, self._batch, self.frames)
            for row, things in enumerate(scenes.things()):
                fitting = [q for q in family.ask(things, self.frames) if q.balance == wanted]
                if fitting:
                    return category, choice.choice(fitting), scenes.pick(tensor([row])), stream
