"""What training asks: scenes made for a family in turn, as the test set's are, and questions.

Random scenes are no substitute. A quarter of them shows nothing plain, and one in five has a
needle, a guest or an order to ask about: 2,000 steps of random scenes held 2,500 questions of
*when*, most of them packed several times.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator

from tokenprune.tasks.cast import roles
from tokenprune.tasks.questions import CATEGORIES, Question
from tokenprune.tasks.scenes import Scenes, Thing, draw
from tokenprune.tasks.tinyvqa import MIN_FRAMES

_CHOICES = 10  # scenes drawn for one that is taken
_EMPHASIS = {  # how often a family is wanted and asked; what is learnt last is asked most
    **dict.fromkeys(("existence", "colour", "small"), 0.4),
    **dict.fromkeys(("shape", "direction", "order", "when", "needle", "describe"), 1.5),
    **dict.fromkeys(("tally", "lookalike"), 1.5),
}


class Asked(NamedTuple):
    """A question of a family, and how much its answer weighs."""

    family: str
    question: Question
    weight: float


def pools(things: Sequence[Thing], frames: int) -> dict[str, list[Question]]:
    """All questions of every family that has any."""
    found = {name: family.ask(things, frames) for name, family in CATEGORIES.items()}
    return {name: questions for name, questions in found.items() if questions}


def _families(names: Sequence[str], number: int, choice: random.Random) -> list[str]:
    return choice.choices(names, [_EMPHASIS.get(name, 1.0) for name in names], k=number)


def commission(stream: Generator, videos: int, frames: int, choice: random.Random) -> Scenes:
    """`videos` scenes, each with a question of a random family and balance word if it has any."""
    wanted = [
        (name, choice.choice(CATEGORIES[name].balance))
        for name in _families(_suited(frames), videos, choice)
    ]
    plots = dict.fromkeys(CATEGORIES[name].plot for name, _ in wanted)  # an ordered set
    parts = []
    for plot in plots:
        orders = [order for order in wanted if CATEGORIES[order[0]].plot is plot]
        scenes = draw(stream, _CHOICES * len(orders), frames, plot)
        parts.append(scenes.pick(torch.tensor(_deliver(scenes, orders))))
    return Scenes.concatenate(parts).pick(torch.tensor(choice.sample(range(videos), videos)))


def _suited(frames: int) -> list[str]:
    """Families whose scenes fit into so many frames: a plot needs room for what it tells."""
    short = frames < MIN_FRAMES
    return [name for name, family in CATEGORIES.items() if family.plot is roles or not short]


def _deliver(scenes: Scenes, orders: list[tuple[str, str]]) -> list[int]:
    """Rows of `scenes` for the orders, a family and a balance word each: any, where none has it."""
    words = [
        {
            (name, question.balance)
            for name, asked in pools(things, scenes.frames).items()
            for question in asked
        }
        for things in scenes.things()
    ]
    free = dict.fromkeys(range(len(scenes)))  # an ordered set
    taken = []
    for order in orders:
        row = next((row for row in free if order in words[row]), next(iter(free)))
        del free[row]
        taken.append(row)
    return taken


def ask(things: Sequence[Thing], frames: int, number: int, choice: random.Random) -> list[Asked]:
    """`number` draws of a family, a balance word and a question.

    What is drawn twice is asked once, and weighs 2.
    """
    found = pools(things, frames)
    drawn: Counter[tuple[str, Question]] = Counter()
    for name in _families(list(found), number, choice):
        word = choice.choice(sorted({question.balance for question in found[name]}))
        drawn[
            name, choice.choice([question for question in found[name] if question.balance == word])
        ] += 1
    return [Asked(*asked, float(times)) for asked, times in drawn.items()]
