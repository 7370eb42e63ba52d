"""What an allocator asks a guide: queries of its text and its visual keys, in chosen layers.

Axes: `b` samples, `s` columns, `r` those of questions, `f` frames, `n` visual tokens, `l` layers,
`h` query heads, `g` key/value heads, `e` head width, `d` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.guards import contract
from tokenprune.precision import full_precision
from tokenprune.runtime import attention
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.coarse import coarser
from tokenprune.runtime.guide import Guide, Shown
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.stage_report import ProbeReport
from tokenprune.strategy import Allocator
from tokenprune.tokens import LastRow, Probe, QuestionRows


class Wanted(NamedTuple):
    """What is read in one pass of a guide."""

    side: int  # of the squares that frames are pooled to
    layers: tuple[int, ...]
    question: bool  # the whole question, or the last row alone


def weigh(
    allocator: Allocator,
    guide: Guide,
    layout: Layout,
    see: Callable[[], Shown],
    clock: Clock,
) -> tuple[dict[Unit, Float[Tensor, "f"]], ProbeReport]:
    """Weights of the frames of each video, and what the guide did for them.

    One pass of the guide serves all samples; nothing runs until the allocator asks for layers.
    """
    given: dict[Unit, Tensor] = {}
    with full_precision() as autocast:
        asked = Asked(guide, see, clock, autocast)
        for unit in layout.units:
            probe = PromptProbe(asked, layout, unit)
            given[unit] = contract.ask(allocator, "weigh", probe, sample=unit.sample)
    weights = {
        unit: contract.weights(allocator, unit.video.frames, weight)
        for unit, weight in given.items()
    }
    return weights, asked.ran


class Asked:
    """A guide's passes over one batch, each made once, when it is asked for."""

    def __init__(
        self,
        guide: Guide,
        see: Callable[[], Shown],
        clock: Clock,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.adapter = guide.adapter
        self._guide, self._see, self._clock, self._autocast = guide, see, clock, autocast
        self._shown: dict[int, Shown] = {}
        self._read: dict[Wanted, tuple[Tensor, Tensor]] = {}

    @property
    def ran(self) -> ProbeReport:
        """The longest of the passes."""
        passes = [
            ProbeReport(max(one.layers) + 1, one.side, self._shown[one.side].shared)
            for one in self._read
        ]
        return max(passes, key=lambda one: one.layers / one.side**2, default=ProbeReport())

    def shown(self, side: int) -> Shown:
        """The guide's own prompt, its frames pooled."""
        if side not in self._shown:
            with self._clock.inner("probe"), self._autocast():
                whole = self._see() if side == 1 else coarser(self.adapter, self.shown(1), side)
            self._shown[side] = whole
        return self._shown[side]

    def rows(self, wanted: Wanted) -> tuple[Float[Tensor, "l b h r e"], Float[Tensor, "l b g s e"]]:
        """Queries and keys of all samples, on the device of the answering model's prompt."""
        if wanted not in self._read:
            shown = self.shown(wanted.side)
            layout = shown.layout
            columns = layout.question if wanted.question else layout.last
            with self._clock.inner("probe"), self._autocast():
                read = self._guide.read(wanted.layers, columns, shown)
            # layers may lie on several devices
            queries, keys = (
                torch.stack([part.to(layout.device) for part in parts])
                for parts in zip(*read, strict=True)
            )
            self._read[wanted] = queries, keys
        return self._read[wanted]


class PromptProbe(Probe):
    """One video's view of a guide that reads the whole batch once."""

    def __init__(self, asked: Asked, layout: Layout, unit: Unit, side: int = 1) -> None:
        self.depth, self.frames = asked.adapter.depth, unit.video.frames
        self._asked, self._layout, self._unit, self._side = asked, layout, unit, side

    @cached_property
    def frame(self) -> Int[Tensor, "n"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        video, device = self._unit.video.pooled(self._side), self._layout.device
        frame = torch.arange(video.tokens, device=device) // video.cells
        return hosted.note_counts(frame, [video.cells] * video.frames)

    def pooled(self, side: int) -> Probe:
        """Squares of what this one sees, counted from the whole frame."""
        if side == 1:
            return self
        return PromptProbe(self._asked, self._layout, self._unit, self._side * side)

    def last_row(self, layers: Sequence[int]) -> LastRow:
        """Of those of `layers` that see the whole prompt; of all of them where none does."""
        queries, keys = self._rows(layers, False)
        return LastRow(queries[:, :, 0], keys)

    def question(self, layers: Sequence[int]) -> QuestionRows:
        """Of those of `layers` that see the whole prompt; of all of them where none does."""
        queries, keys = self._rows(layers, True)
        asked = int(self._layout.behind[self._unit.sample].sum())
        return QuestionRows(queries[:, :, :asked].transpose(1, 2), keys)

    @property
    def features(self) -> Float[Tensor, "n d"]:
        shown = self._asked.shown(self._side)
        entered = shown.given["inputs_embeds"][self._unit.sample].detach()
        columns = shown.layout.columns(self._unit)
        return entered.index_select(0, columns.to(entered.device)).to(self._layout.device)

    def _rows(
        self, layers: Sequence[int], question: bool
    ) -> tuple[Float[Tensor, "l h r e"], Float[Tensor, "l g n e"]]:
        window = self._asked.adapter.window
        whole = tuple(layer for layer in layers if window(layer) is None) or tuple(layers)
        queries, keys = self._asked.rows(Wanted(self._side, whole, question))
        sample, layout = self._unit.sample, self._asked.shown(self._side).layout
        return queries[:, sample], attention.at(keys[:, sample], layout.own(self._unit))
