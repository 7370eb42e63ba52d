"""The rows that are left of one sample while stages of one layer drop some, one after another.

Axes: `s` columns of the layout that the layer below saw, `m` rows that are left, `k` some of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.table import send


@dataclass(frozen=True)
class Held:
    """Columns of a layout in the order in which their rows go on.

    How many there are the host knows. `run` is the first of them where they stand side by side, so
    that nothing has to be looked up; else `index` has them.
    """

    number: int
    run: int | None
    index: Int[Tensor, "m"] | None = None

    @classmethod
    def of(cls, layout: Layout, sample: int) -> Held:
        """All rows of a sample."""
        columns = np.flatnonzero(layout.real[sample])
        if len(columns) and columns[-1] - columns[0] == len(columns) - 1:
            return cls(len(columns), int(columns[0]))
        return cls(len(columns), None, send(columns, layout.device))

    def rows(self, values: Shaped[Tensor, "s *d"]) -> Shaped[Tensor, "m *d"]:
        """What `values` have for these columns; a view of them where they stand side by side."""
        if self.run is None:
            assert self.index is not None
            return values.index_select(0, self.index.to(values.device))
        if self.number == len(values):
            return values
        return values[self.run : self.run + self.number]

    def columns(self, device: torch.device) -> Int[Tensor, "m"]:
        """The columns themselves."""
        if self.run is None:
            assert self.index is not None
            return self.index
        return torch.arange(self.run, self.run + self.number, device=device)

    def some(self, rows: Int[Tensor, "k"]) -> Held:
        """The rows with these numbers, in their order."""
        if self.run is None:
            assert self.index is not None
            return Held(len(rows), None, self.index.index_select(0, rows))
        return Held(len(rows), None, rows + self.run if self.run else rows)

    def places(self, columns: Int[Tensor, "k"]) -> Int[Tensor, "k"]:
        """Where columns are among these, which rise."""
        if self.run is None:
            assert self.index is not None
            return torch.searchsorted(self.index.to(columns.device), columns)
        return columns - self.run if self.run else columns

    def spread(self, values: Shaped[Tensor, "m"], width: int) -> Shaped[Tensor, "s"]:
        """`values` of these rows on all columns, of which there are `width`; 0 on others."""
        if self.number == width:
            return values
        at = self.columns(values.device)
        return values.new_zeros(width).index_copy(0, at, values)


class Own:
    """The rows of one video's sample in a layout, looked up once for all events on it."""

    def __init__(self, layout: Layout, unit: Unit, frame: Int[Tensor, "s"]) -> None:
        self._layout, self._sample = layout, unit.sample
        self.held = Held.of(layout, unit.sample)
        self.frame = self.held.rows(frame)

    @cached_property
    def position(self) -> Int[Tensor, "m"]:
        return self.held.rows(self._layout.row[self._sample])

    @cached_property
    def slot(self) -> Int[Tensor, "m"]:
        return self.held.rows(self._layout.slot[self._sample])
