"""TinyVQA: questions about synthetic videos of moving shapes, generated on demand and stored nowhere.

A family of questions is one function from the objects of a video to all the questions that can be asked about it, and
one line of `FAMILIES`. Each question carries a *balance* word; the test set takes families in turn and, within a
family, balance words in turn, so that whoever reads only the question scores chance.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Generator, tensor

from tokenprune.tasks.base import Sample, Task
from tokenprune.tasks.render import render
from tokenprune.tasks.scenes import COLOURS, CROWD, DIRECTIONS, SHAPES, Thing, draw

MIN_FRAMES = 4  # with fewer there is neither motion nor order to ask about


class Question(NamedTuple):
    """A question, its answer, and the word over which the answers of its family are balanced."""

    text: str
    answer: str
    balance: str


Ask = Callable[[Sequence[Thing], int], list[Question]]


class Family(NamedTuple):
    """One kind of question: how to ask it (things of a video, number of frames) and its balance words."""

    ask: Ask
    balance: tuple[str, ...]

    @property
    def chance(self) -> float:
        """Expected score of a reader of the question alone."""
        return 1 / len(self.balance)


def _lasting(things: Sequence[Thing]) -> list[Thing]:
    return [thing for thing in things if not thing.needle]


def _existence(things: Sequence[Thing], frames: int) -> list[Question]:
    """Absent pairs recombine a colour and a shape that are both there, if there is company: binding, not presence."""
    there = {(thing.colour, thing.shape) for thing in things}
    crossed = {(a.colour, b.shape) for a, b in itertools.permutations(things, 2)}
    lonely = {(c, s) for c in COLOURS for s in SHAPES if (c == things[0].colour) != (s == things[0].shape)}
    absent = (crossed or lonely) - there
    asked = [((t.colour, t.shape), "yes") for t in _lasting(things)] + [(pair, "no") for pair in sorted(absent)]
    return [Question(f"Is there a {colour} {shape}?", answer, answer) for (colour, shape), answer in asked]


def _colour(things: Sequence[Thing], frames: int) -> list[Question]:
    return [Question(f"What colour is the {t.shape}?", t.colour, t.colour) for t in _lasting(things)]


def _shape(things: Sequence[Thing], frames: int) -> list[Question]:
    return [Question(f"What shape is the {t.colour} one?", t.shape, t.shape) for t in _lasting(things)]


def _count(things: Sequence[Thing], frames: int) -> list[Question]:
    """Counts everything that is ever visible; videos with a needle are left to the needle family."""
    number = str(len(things))
    return [] if len(_lasting(things)) < len(things) else [Question("How many shapes are there?", number, number)]


def _direction(things: Sequence[Thing], frames: int) -> list[Question]:
    moving = [t for t in _lasting(things) if t.last > t.first]
    return [Question(f"Which way does the {t.shape} move?", t.direction, t.direction) for t in moving]


def _order(things: Sequence[Thing], frames: int) -> list[Question]:
    """Asked only of pairs whose first frames are at least an eighth of the video apart."""
    gap = max(1, frames // 8)
    return [
        Question(f"Which came first, the {a.colour} or the {b.colour} one?", min(a, b, key=_first).colour, place)
        for a, b in itertools.permutations(_lasting(things), 2)
        if abs(a.first - b.first) >= gap
        for place in ["former" if a.first < b.first else "latter"]
    ]


def _first(thing: Thing) -> int:
    return thing.first


def _needle(things: Sequence[Thing], frames: int) -> list[Question]:
    """The colour question, about an object that is visible in one or two frames only."""
    return [Question(f"What colour is the {t.shape}?", t.colour, t.colour) for t in things if t.needle]


FAMILIES: dict[str, Family] = {
    "existence": Family(_existence, ("yes", "no")),
    "colour": Family(_colour, COLOURS),
    "shape": Family(_shape, SHAPES),
    "count": Family(_count, tuple(str(n + 1) for n in range(CROWD))),
    "direction": Family(_direction, DIRECTIONS),
    "order": Family(_order, ("former", "latter")),
    "needle": Family(_needle, COLOURS),
}


def generator(split: Literal["train", "test"], seed: int, index: int, frames: int) -> Generator:
    """The random stream of item `index`. Its lowest bit is the split: no test stream is ever a training stream.

    PyTorch's CPU generator reads 32 bits of its seed, hence the width.
    """
    digest = hashlib.sha256(f"{seed}/{index}/{frames}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:4], "little") & ~1 | (split == "test"))


def ask(
    things: Sequence[Thing], frames: int, number: int, choice: random.Random, weights: Mapping[str, float]
) -> list[tuple[str, Question]]:
    """`number` questions on one video, for training: first a family, then a balance word, then one that fits both.

    `weights` are the relative frequencies of families; those not named have 1.
    """
    pools = {name: family.ask(things, frames) for name, family in FAMILIES.items()}
    able = [name for name, pool in pools.items() if pool]
    asked = []
    for name in choice.choices(able, [weights.get(name, 1.0) for name in able], k=number):
        word = choice.choice(sorted({question.balance for question in pools[name]}))
        asked.append((name, choice.choice([question for question in pools[name] if question.balance == word])))
    return asked


class TinyVQA(Task):
    """The test set: one question per video, families and answers balanced in turn."""

    name = "tinyvqa"
    _batch = 16  # scenes drawn at once when looking for one that has the wanted answer

    def __init__(self, *, samples: int | None = None, frames: int = 16, seed: int = 0) -> None:
        if frames < MIN_FRAMES:
            raise ValueError(f"tinyvqa asks about motion and order: frames must be at least {MIN_FRAMES}, not {frames}")
        if samples is not None and samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        self.frames, self.seed = frames, seed
        self._samples = 210 if samples is None else samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> Sample:
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
                    question = choice.choice(fitting)
                    frames, _ = render(stream, scenes.pick(tensor([row])))
                    name = f"{self.name}-{self.seed}-{self.frames}-{index:05d}"
                    return Sample(name, question.text, question.answer, category, frames[0])

    def score(self, prediction: str, sample: Sample) -> float:
        """Exact match, but for case, surrounding blanks and a final full stop."""
        return float(prediction.strip().rstrip(".").strip().lower() == sample.answer.lower())
