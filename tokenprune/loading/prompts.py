"""What stands for videos and images in the text of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tokenprune.adapters.preparation import Preparation, Shown, Written
from tokenprune.loading.spelling import Run


class Way(NamedTuple):
    """How one kind of media goes into a prompt: videos, or images beside them."""

    preparation: Preparation
    token: int  # id of the placeholder of a row
    marker: str  # what a chat template writes for one of them, or for each of its frames


class Slot(NamedTuple):
    """A marker of a prompt, and what replaces it."""

    way: Way
    written: Written

    @property
    def pieces(self) -> list[str | Run]:
        token = self.way.token
        return [Run(token, piece) if isinstance(piece, int) else piece for piece in self.written]


class Seen(NamedTuple):
    """A video or an image, prepared."""

    way: Way
    shown: Shown

    @property
    def slots(self) -> list[Slot]:
        """One for each marker that the chat template writes for it."""
        preparation, (_, video, times) = self.way.preparation, self.shown
        written = preparation.written(video, preparation.moments(times))
        return [Slot(self.way, text) for text in written]


def filled(text: str, slots: Sequence[Slot]) -> list[str | Run] | None:
    """A prompt with what is written in place of its markers; None where it has others."""
    pieces: list[str | Run] = []
    for slot in slots:
        before, found, text = text.partition(slot.way.marker)
        if not found:
            return None
        pieces += [before, *slot.pieces]
    if any(slot.way.marker in text for slot in slots):
        return None
    return [*pieces, text]
