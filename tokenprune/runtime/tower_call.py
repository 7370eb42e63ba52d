"""One call of the vision tower under a stage inside it.

Axes: `f` frames, `r` rows of one on the tower's grid, `i` and `n` those of the layer's own batch,
`h` heads, `e` head width, `d` width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenprune.adapters.vision import TowerBlock
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.tower_report import TowerLayer


class TowerCall(ABC):
    """What a stage does in one call of the tower, of one thread."""

    def __init__(self, blocks: Sequence[TowerBlock], rows: int) -> None:
        self.rows = rows  # of a frame, on the grid
        self._numbers = {block.attention: number for number, block in enumerate(blocks)}

    @abstractmethod
    def taps(self) -> dict[nn.Module, Tap]:
        """What reads or replaces attention, by attention module."""

    @abstractmethod
    def worked(self, frames: slice) -> list[TowerLayer]:
        """What each layer worked on for some of the frames."""

    @abstractmethod
    def place(self, number: int) -> Int[Tensor, "f r"] | None:
        """Of every row of the grid, the row that stands for it in hidden state `number`.

        Hidden state 0 enters the first layer. Rows of all frames are counted through; None: each
        stands for itself.
        """

    def whole(self, number: int, states: Float[Tensor, "i n d"]) -> Float[Tensor, "f r d"]:
        """A hidden state with a row for each of the grid's."""
        if (place := self.place(number)) is None:
            return states
        place = place.to(states.device)
        return states.flatten(0, 1).index_select(0, place.flatten()).unflatten(0, place.shape)

    @abstractmethod
    def around(self, number: int, tap: Tap) -> Tap:
        """This stage's own tap on the attention of layer `number`, and `tap` behind it."""

    def on_grid(self, module: nn.Module, tap: Tap) -> Tap:
        """Its own tap on an attention module, and one that sees every row of the grid."""
        number = self._numbers[module]

        def spread(query: Tensor, key: Tensor, scale: float) -> None:
            tap(self._spread(number, query), self._spread(number, key), scale)

        return self.around(number, spread)

    def _spread(self, number: int, states: Float[Tensor, "i h n e"]) -> Float[Tensor, "f h r e"]:
        rows = states.transpose(1, 2)
        return self.whole(number, rows.flatten(2)).unflatten(2, rows.shape[2:]).transpose(1, 2)
