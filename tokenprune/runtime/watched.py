"""The rows of a video's sample as a decode stage sees them, step after step.

Those of the prompt stay what they are, and each step adds a word. Everything is made once, with
words in advance, so that a step only cuts it.

Axes: `t` cached columns and this step's own, `m` columns of the prompt's layout, `r` rows of the
sample, without padding, `v` visual ones.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.runtime.layout import Layout, Unit
from tokenprune.tokens import TEXT, SequenceView

AHEAD = 256  # words


class Watched:
    """The rows of one video's sample in one layout.

    Args:
        unit: the video
        frame: of each column of the layout, the frame of this video
        layout: which columns there are
        columns: how many there are by now, later ones included
        real: which of them are no padding; None: all
    """

    def __init__(
        self,
        unit: Unit,
        frame: Int[Tensor, "m"],
        layout: Layout,
        columns: int,
        real: Bool[Tensor, "t"] | None,
    ) -> None:
        self._unit, row, self._ahead = unit, layout.row[unit.sample], columns + AHEAD
        more, rows = self._ahead - len(frame), len(frame)
        if real is not None:
            rows = layout.lengths[unit.sample]
        frame = torch.cat([frame, frame.new_full((more,), TEXT)])
        position = torch.cat([row, torch.arange(rows, rows + more, device=row.device)])
        self.columns: Tensor | None = None  # of each row; None: one for one
        if real is not None:
            real = torch.cat([real, real.new_ones(AHEAD)])
            self.columns = real.nonzero().squeeze(-1)
            frame, position = frame[self.columns], position[self.columns]
        self._frame, self._position = frame, position
        self._visual = (frame != TEXT).nonzero().squeeze(-1)

    def holds(self, columns: int) -> bool:
        """Whether it reaches so far."""
        return columns <= self._ahead

    def view(self, attention: Float[Tensor, "t"]) -> SequenceView:
        """What a step sees that attends to these columns."""
        missing = self._ahead - len(attention)
        number = len(self._frame) - missing
        if self.columns is not None:
            attention = attention.index_select(0, self.columns[:number])
        return SequenceView(
            frame=self._frame[:number],
            position=self._position[:number],
            attention=attention,
            frames=self._unit.video.frames,
            rows=self._visual,
        )

    def rows(self, columns: int) -> Tensor | slice:
        """The columns of its rows among so many."""
        if self.columns is None:
            return slice(None)
        return self.columns[: len(self.columns) - self._ahead + columns]

    def seen(self, shown: Bool[Tensor, "r"]) -> Int[Tensor, ""]:
        """How many visual rows a mask shows."""
        return shown.index_select(0, self._visual).sum()
