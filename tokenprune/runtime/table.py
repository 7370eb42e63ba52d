"""Whole numbers of a batch, which the host knows or a device has made, on whichever asks for them.

Axes: `b` samples, `s` columns, `m` columns of a later layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from tokenprune import hosted

Array = np.ndarray


class Table:
    """One number for each of so many columns of every sample.

    `known` is what the host knows; else `made` makes them on a device, once somebody asks.
    """

    def __init__(
        self,
        known: Shaped[Array, "b m"] | None = None,
        made: Callable[[], Shaped[Tensor, "b m"]] | None = None,
    ) -> None:
        self.known, self._made = known, made
        self._on: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Shaped[Tensor, "b m"]:
        if device not in self._on:
            self._on[device] = self._brought(device)
        return self._on[device]

    def _brought(self, device: torch.device) -> Shaped[Tensor, "b m"]:
        if self.known is not None:
            return send(self.known, device)
        if self._made is None:  # it is on another device
            return next(iter(self._on.values())).to(device)
        made, self._made = self._made(), None
        self._on[made.device] = made
        return made.to(device)

    def at(self, columns: Table, device: torch.device) -> Table:
        """The numbers at `columns` of these; made on `device` where the host does not know both."""
        if self.known is not None and columns.known is not None:
            return Table(np.take_along_axis(self.known, columns.known, 1))
        return Table(made=lambda: self.on(device).gather(1, columns.on(device)))


def send(values: Shaped[Array, "*n"], device: torch.device) -> Shaped[Tensor, "*n"]:
    """What the host knows, on a device, without waiting for it. Shares memory on the host."""
    return hosted.moved(torch.from_numpy(values), device)


def counted(real: Bool[Array, "b s"]) -> Int[Array, "b s"]:
    """The place of each row in its sample's own sequence; padding counts for nothing."""
    return (real.cumsum(1) - 1).clip(min=0)


def packed(lengths: Sequence[int], right: bool) -> Bool[Array, "b m"]:
    """Which columns are real where so many rows of each sample stand together.

    Padding goes to the left, where `generate` wants it, or to the `right` if it came there.
    """
    width = max(lengths)
    columns, number = np.arange(width), np.array(lengths)[:, None]
    return columns < number if right else columns >= width - number


def only(columns: Int[Tensor, "b m"]) -> Int[Tensor, "*b m"]:
    """Of a batch of one its row, which `take` looks up at once; others as they are."""
    return columns[0] if len(columns) == 1 else columns


def take(states: Tensor, columns: Int[Tensor, "*b m"], dim: int = 1) -> Tensor:
    """Columns of every sample, from `[b or 1, ..., s, ...]`; whole rows are copied, once.

    Columns lie along `dim`. All samples have the same ones where there is one row of them.
    """
    columns = columns.to(states.device)
    if columns.ndim == 1:
        return states.index_select(dim, columns)
    if len(columns) == 1:
        return states.index_select(dim, columns[0])
    if dim != 1:
        return take(states.transpose(1, dim), columns).transpose(1, dim)
    samples = torch.arange(len(columns), device=states.device).unsqueeze(-1)
    return states.expand(len(columns), *states.shape[1:])[samples, columns]
