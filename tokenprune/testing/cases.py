"""Cases that laws are tried on, drawn from a seed: every edge first, then chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.sequence import TEXT, SequenceView
from tokenprune.testing.inputs import (
    KINDS,
    Kind,
    Place,
    TableProbe,
    Widths,
    later,
    sequence_view,
    table_probe,
    visual_tokens,
)
from tokenprune.tokens import Signals, VisualTokens

Sources = Callable[[int], set[int]]  # the other frames that may decide what a frame keeps


def alone(frame: int) -> set[int]:
    """No other frame."""
    return set()


@dataclass(frozen=True)
class OfTokens:
    """A case of a vision stage or a condenser.

    Args:
        tokens: the video
        budget: any that its frames can hold
        disturbed: the frame that gets other contents
        sources: the frames that may decide what a frame keeps; None: as `mixes_frames` says
        adaptive: whether its own rule may merge a frame of which it keeps all; None: as `merges`
            says
        between: another video, shown to it in between
    """

    tokens: VisualTokens
    budget: Int[Tensor, "f"]
    disturbed: int = 0
    sources: Sources | None = None
    adaptive: bool | None = None
    between: VisualTokens | None = None


@dataclass(frozen=True)
class OfRows:
    """A case of a prefill stage; see `OfTokens`."""

    view: SequenceView
    budget: Int[Tensor, "f"]
    disturbed: int = 0
    between: SequenceView | None = None


@dataclass(frozen=True)
class OfSteps:
    """A case of a decode stage: the decoding steps of two samples."""

    steps: tuple[SequenceView, ...]
    others: tuple[SequenceView, ...]


@dataclass(frozen=True)
class OfFrames:
    """A case of an allocator: what its guide sees, a host, and what that sees."""

    probe: TableProbe
    host: object
    seen: VisualTokens | SequenceView = field(repr=False)


@dataclass(frozen=True)
class OfKeys:
    """A case of a tower merger: keys `[i n k]` of a layer, of which it may merge `remove` rows.

    A tower of `layers`, of which a frame enters with `rows`; the `first` of them are no patches.
    """

    keys: Float[Tensor, "i n k"]
    remove: int
    first: int
    layers: int
    rows: int


@dataclass(frozen=True)
class OfPatches:
    """A case of a tower reuser: the values of each patch of a video."""

    patches: Float[Tensor, "f p v"]


@dataclass
class Chance:
    """Draws cases; two of one seed draw the same."""

    seed: int

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)

    def kind(self) -> Kind:
        return self.draw.choice(KINDS)

    def budget(self, counts: Int[Tensor, "f"]) -> Int[Tensor, "f"]:
        """Any that the frames can hold."""
        drawn = [self.draw.randint(0, most) for most in counts.tolist()]
        return torch.tensor(drawn, dtype=torch.long)

    def slots(self, frames: int, cells: int, lost: str = "") -> list[list[int]]:
        """The cells of each frame that are there: all, or what is left of them."""
        every = [list(range(cells)) for _ in range(frames)]
        if not lost:
            return every
        kept = [sorted(self.draw.sample(row, self.draw.randint(0, cells))) for row in every]
        if lost == "order":
            for row in kept:
                self.draw.shuffle(row)
        return kept

    def tokens(
        self,
        slots: list[list[int]],
        cells: int,
        signals: Signals,
        kind: Kind | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> VisualTokens:
        """A video with the given cells."""
        frame, slot = flat(slots)
        widths = Widths(*(self.draw.randint(low, 8) for low in (1, 1, 1, 1, 1)))
        return visual_tokens(
            self.generator,
            frame,
            slot,
            len(slots),
            cells,
            kind or self.kind(),
            dtype,
            widths,
            signals,
        )

    def view(
        self,
        slots: list[list[int]],
        cells: int,
        place: Place,
        kind: Kind | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> SequenceView:
        """A prompt of words, the video, perhaps words, and the question."""
        frame, slot = flat(slots)
        first, last = self.draw.randint(0, 3), self.draw.randint(1, 4)
        words = [torch.full((number,), TEXT) for number in (first, last)]
        lost = max(0, place.seen[0] - len(frame)) if place.seen else 0
        return sequence_view(
            self.generator,
            torch.cat([words[0], frame, words[1]]),
            torch.cat([words[0] * 0, slot, words[1] * 0]),
            len(slots),
            cells,
            place,
            kind or self.kind(),
            dtype,
            lost,
        )

    def steps(self) -> tuple[SequenceView, ...]:
        """Some decoding steps, whose attention sometimes jumps and sometimes drifts."""
        slots = self.slots(self.draw.randint(1, 5), 6, self.draw.choice(("", "rows")))
        first = self.view(slots, 6, Place(1, 4))
        logits = torch.randn(len(first.frame), generator=self.generator)
        views: list[SequenceView] = []
        for step in range(self.draw.randint(1, 6)):
            logits = torch.cat([logits, torch.zeros(1)]) if step else logits
            noise = torch.randn(len(logits), generator=self.generator)
            logits = logits + self.draw.choice((0.0, 0.05, 2.0)) * noise
            views.append(later(first, step, logits.softmax(0)))
        return tuple(views)

    def probe(self, frames: int) -> TableProbe:
        """A guide over so many frames."""
        tokens, depth, groups, shared = (self.draw.randint(1, most) for most in (6, 7, 3, 3))
        return table_probe(self.generator, frames, tokens, depth, groups, shared)


def flat(slots: list[list[int]]) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Frame and slot of every token, from the cells of each frame."""
    counts = torch.tensor([len(row) for row in slots])
    cells = [slot for row in slots for slot in row]
    return (
        torch.arange(len(slots)).repeat_interleave(counts),
        torch.tensor(cells, dtype=torch.long),
    )


# frames, cells, and what is lost of them: whole videos, one frame, one token, ragged, another order
SHAPES = (
    (4, 9, ""),
    (1, 9, ""),
    (1, 1, ""),
    (2, 2, ""),
    (8, 4, ""),
    (5, 16, "rows"),
    (7, 6, "rows"),
    (6, 9, "order"),
    (9, 4, "rows"),
    (3, 36, ""),
)


def shapes(chance: Chance) -> Iterator[tuple[list[list[int]], int]]:
    """The cells of each frame, and how many a whole one has; without end."""
    for frames, cells, lost in SHAPES:
        yield chance.slots(frames, cells, lost), cells
    yield [[], [0, 2], [], [1], []], 4  # empty frames
    yield [[], []], 4  # nothing at all
    while True:
        frames, cells = chance.draw.randint(1, 10), chance.draw.choice((1, 3, 7, 9, 16))
        yield chance.slots(frames, cells, chance.draw.choice(("", "rows", "order"))), cells
