"""What TinyVQA asks: a category of questions is one function from the objects of a video to all the
questions that can be asked about it, and one line of `CATEGORIES`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenprune.tasks import plots
from tokenprune.tasks.cast import Plot, roles
from tokenprune.tasks.scenes import COLOURS, CROWD, DIRECTIONS, SHAPES, THIRDS, Thing


class Question(NamedTuple):
    """A question and its answer; its category's questions are balanced over `balance` words."""

    text: str
    answer: str
    balance: str
    evidence: tuple[int, ...] = ()  # the frames it cannot do without, where they are known


Ask = Callable[[Sequence[Thing], int], list[Question]]


class Category(NamedTuple):
    """One kind of question: how to ask it (things of a video, number of frames), its balance words,
    and the plot of the videos it is asked about.
    """

    ask: Ask
    balance: tuple[str, ...]
    metric: str = "exact_match"
    plot: Plot = roles

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
    """Counts everything that is ever visible; videos with a needle have their own category."""
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


def _flash(things: Sequence[Thing], frames: int) -> list[Question]:
    """The colour question, about an object that is visible in a single frame."""
    single = [t for t in things if t.needle and t.first == t.last]
    return [
        Question(f"What colour is the {t.shape}?", t.colour, t.colour, (t.first,)) for t in single
    ]


def _apart(things: Sequence[Thing], frames: int) -> list[Question]:
    """The order question, about two needles at least half the video apart."""
    brief = [t for t in things if t.needle]
    return [
        Question(
            f"Which came first, the {a.colour} or the {b.colour} one?",
            min(a, b, key=_first).colour,
            "former" if a.first < b.first else "latter",
            tuple(sorted(_presence(a) + _presence(b))),
        )
        for a, b in itertools.permutations(brief, 2)
        if abs(a.first - b.first) >= frames / 2
    ]


def _tally(things: Sequence[Thing], frames: int) -> list[Question]:
    """The counting question, about needles only: no two of them are ever visible together."""
    if not all(t.needle for t in things):
        return []
    number, seen = str(len(things)), sorted(itertools.chain(*map(_presence, things)))
    return [Question("How many shapes are there?", number, number, tuple(seen))]


def _lookalike(things: Sequence[Thing], frames: int) -> list[Question]:
    """The shape question, about an object whose look-alike is there as well."""
    return [
        Question(f"What shape is the {t.colour} one?", t.shape, t.shape) for t in things if t.fine
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
SHORT: dict[str, Category] = {
    "existence": Category(_existence, ("yes", "no")),
    "colour": Category(_colour, COLOURS),
    "shape": Category(_shape, SHAPES),
    "count": Category(_count, tuple(str(n + 1) for n in range(CROWD))),
    "direction": Category(_direction, DIRECTIONS),
    "order": Category(_order, ("former", "latter")),
    "state": Category(_state, COLOURS),
    "when": Category(_when, THIRDS),
    "needle": Category(_needle, COLOURS),
    "small": Category(_small, COLOURS),
}
HARD: dict[str, Category] = {  # short answers, too; `plots` says what is hard about their videos
    "flash": Category(_flash, COLOURS),
    "apart": Category(_apart, ("former", "latter"), plot=plots.apart),
    "tally": Category(_tally, SHORT["count"].balance, plot=plots.procession),
    "lookalike": Category(_lookalike, SHAPES, plot=plots.twins),
}
CATEGORIES: dict[str, Category] = {
    **SHORT,
    **HARD,
    "describe": Category(_describe, tuple(map(str, EVENTS)), "event_f1"),
}
