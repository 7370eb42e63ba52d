"""One prompt under compression: which rows are where, from layer to layer and from step to step.

Axes: `b` samples, `s` padded columns of the uncompressed prompt, `m` columns of a layout, `t`
columns of a layout and those generated behind it, `c` the same and those gone before, `q` new
columns, `p` rows of positions, `f` frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from tokenprune import hosted
from tokenprune.runtime.held import Own
from tokenprune.runtime.layout import Layout, Unit
from tokenprune.runtime.partitioned_cache import Partition
from tokenprune.runtime.report import Report
from tokenprune.runtime.table import Array, Table

IGNORED = -100  # the label of what counts for no loss, in torch and in transformers


class Change(NamedTuple):
    """What a new layout means besides its rows.

    Args:
        tokens: how many are left of each video
        budgets: and of each of its frames
        moved: whether rows have changed their order
        anew: whether positions are counted from 0
        forgets: whether the layers below lose the other rows, too, once they have run
    """

    tokens: Mapping[Unit, int]
    budgets: Mapping[Unit, Int[Tensor, "f"]]
    moved: bool
    anew: bool
    forgets: bool


class PromptState:
    """A padded batch: its layouts, their columns, positions and validity. It runs nothing.

    `layout` is what enters the language model. Where a vision stage has made it, `origin` has its
    columns in the `sent` ones of the caller, and `shift` how many positions each sample lost; None
    where they are the uncompressed prompt's.
    """

    def __init__(
        self,
        layout: Layout,
        report: Report,
        sent: int | None = None,
        origin: Table | None = None,
        shift: Int[Array, "b"] | None = None,
    ) -> None:
        self.report = report
        self.units = layout.units
        self.layouts = [layout]
        self.starts = [0]  # first LLM layer of each layout
        # of each layout, how many tokens it has of each video
        self.tokens: list[Mapping[Unit, int]] = [{unit: unit.video.tokens for unit in layout.units}]
        # tokens per frame of each video in the first layout
        self.counts: dict[Unit, tuple[int, ...]] = {
            unit: (unit.video.cells,) * unit.video.frames for unit in layout.units
        }
        # of each layout, the one whose rows its positions count; 0: the caller's, or `shift`
        self.counted = [0]
        self.fixed = False  # whether its cache is a static one, which compiled steps fill, too
        self.moved = False  # whether a stage has put rows in another order
        # the last layout whose rows the layers below it shall lose, too, after the prompt
        self.remembered = 0
        self.columns: list[Table] = []  # of each later layout, in the layout before
        # of the last layout, in the caller's; None while they are one
        self.origin = origin
        # positions moved up by as many, as a step subtracts it
        self.shift = None if shift is None else Table(shift[:, None].astype(np.float32))
        # columns of the caller's prompt, and those that it has sent so far
        self.sent = self.seen = layout.width if sent is None else sent
        self.later = 0  # columns after the prompt
        self._real: Tensor | None = None  # which of them are; None: all
        self._entered = layout  # at layer 0
        self._lengths: dict[int, Table] = {}  # rows of each sample, by id of a layout
        self._covers: dict[int, Tensor] = {}  # by number of a layout
        self._frames: dict[tuple[Unit, int], Tensor] = {}
        self._own: dict[tuple[Unit, int], Own] = {}
        self._budgets: Mapping[Unit, Tensor] = {}  # what `counts` are in the last layout
        # what decode stages leave for the next step
        self.states: dict[Unit, Any] = {}  # a stage's own, by video
        self.watched: dict[Unit, Any] = {}  # the rows that it sees
        self.attended: dict[int, Tensor] = {}  # how many visual ones the last step saw, by sample
        self.partitions: dict[int, Partition] = {}  # of the cached rows, by number of a layout

    # layouts

    def at(self, layer: int) -> int:
        """Number of the layout that `layer` runs on."""
        return max(number for number, start in enumerate(self.starts) if start <= layer)

    def until(self, number: int, depth: int) -> int:
        """The LLM layer past the last one that runs on a layout."""
        return [*self.starts, depth][number + 1]

    def begin_layout(self, layer: int, layout: Layout, columns: Table, change: Change) -> None:
        """From `layer` up the prompt is `columns` of the layout before."""
        self.layouts.append(layout)
        self.starts.append(layer)
        self.columns.append(columns)
        self.tokens.append(change.tokens)
        self._budgets = change.budgets
        self.moved = self.moved or change.moved
        if change.forgets:
            self.remembered = len(self.layouts) - 1
        self.counted.append(len(self.counted) if change.anew else self.counted[-1])
        origin = self.origin
        self.origin = columns if origin is None else origin.at(columns, layout.device)

    def forget(self) -> list[tuple[range, Int[Tensor, "b m"]]]:
        """Lets the layers below the remembered layout have its rows only, once they have run.

        Returns those layers, and the columns that they keep.
        """
        last, ends = self.remembered, self.starts
        device = self.layouts[last].device
        kept: list[tuple[range, Tensor]] = []
        columns: Table | None = None
        for number in reversed(range(last)):
            below = self.columns[number]
            columns = below if columns is None else below.at(columns, device)
            kept.append((range(ends[number], ends[number + 1]), columns.on(device)))
        self.layouts, self.tokens = self.layouts[last:], self.tokens[last:]
        self.starts, self.columns = [0, *ends[last + 1 :]], self.columns[last:]
        self.counted, self.remembered = self.counted[last:], 0
        for known in (self._covers, self._frames, self._own):
            known.clear()
        return kept

    def carry(self, values: Shaped[Tensor, "b t"], number: int) -> Shaped[Tensor, "b u"]:
        """Values on the cached columns of layout `number - 1`, on those of layout `number`."""
        width = self.layouts[number - 1].width
        prompt = values[:, :width].gather(1, self.columns[number - 1].on(values.device))
        return torch.cat([prompt, values[:, width:]], dim=1)

    def frame(self, unit: Unit, number: int) -> Int[Tensor, "m"]:
        """Of each column of a layout, the frame of one video of its sample; all else is text."""
        if (unit, number) not in self._frames:  # every event, and every decoding step, asks again
            layout = self.layouts[number]
            frame = layout.frame[unit.sample]
            one = len(layout.videos[unit.sample]) == 1
            self._frames[unit, number] = frame if one else unit.frame(frame)
        return self._frames[unit, number]

    def own(self, unit: Unit) -> Own:
        """The rows of a video's sample in the last layout, with what the host knows of them."""
        key = unit, len(self.layouts) - 1
        if key not in self._own:
            own = self._own[key] = Own(self.layouts[-1], unit, self.frame(*key))
            counts = self._budgets.get(unit, self.counts[unit])
            hosted.note_counts(hosted.note_rows(own.frame, self.tokens[-1][unit]), counts)
        return self._own[key]

    # validity

    @property
    def generated(self) -> Bool[Tensor, "b u"]:
        """Which columns after the prompt are real."""
        if self._real is None:
            first = self.layouts[0]
            return torch.ones(first.samples, self.later, dtype=torch.bool, device=first.device)
        return self._real

    @property
    def gaps(self) -> bool:
        """Whether a column after the prompt is not real."""
        return self._real is not None

    @property
    def whole(self) -> bool:
        """Whether every column of every layout is real."""
        return not self.gaps and not any(one.padded for one in (self._entered, *self.layouts))

    @property
    def plain(self) -> bool:
        """Whether a row that follows has the caller's positions, and sees all, in every layer."""
        return self.whole and not any(self.counted)

    def validity(self, number: int) -> Bool[Tensor, "b t"]:
        """Which cached columns of a layout are real, generated ones included; a new tensor."""
        return torch.cat([self.layouts[number].valid, self.generated], dim=1)

    def gone(self, number: int) -> int:
        """Columns of the caller's prompt that a layout does not hold."""
        return self.sent - self.layouts[number].width

    def visible(self, mask: Bool[Tensor, "b t"] | None, number: int) -> Bool[Tensor, "b c"] | None:
        """A mask of the columns that a layout's cache has seen, from one of those it holds."""
        return None if mask is None else pad(mask, (self.gone(number), 0), value=True)

    def mask(self, number: int) -> Bool[Tensor, "b t"] | None:
        """`validity`, or None where every column is real."""
        return self.validity(number) if self.gaps or self.layouts[number].padded else None

    def cover(self, number: int) -> Bool[Tensor, "b c"] | None:
        """`mask` of all columns that a layout's cache has seen; grows from step to step."""
        if not self.gaps and not self.layouts[number].padded:
            return None
        known = self._covers.get(number)
        if known is None or self.gaps:
            known = pad(self.validity(number), (self.gone(number), 0), value=True)
        elif (more := self.seen - known.shape[1]) > 0:
            known = pad(known, (0, more), value=True)
        self._covers[number] = known
        return known

    def extend(self, columns: int, mask: Bool[Tensor, "b t"] | Int[Tensor, "b t"] | None) -> None:
        """Takes note of columns that follow the prompt; a mask is read, as the model would."""
        tail = None if mask is None else mask[:, -columns:]
        if self.gaps or (tail is not None and not bool(tail.all())):
            known = self.generated
            real = known.new_ones(len(known), columns) if tail is None else tail.bool()
            self._real = torch.cat([known, real.to(known.device)], dim=1)
        self.later += columns
        self.seen += columns

    # positions and labels

    def step_positions(
        self, given: Int[Tensor, "*p q"] | None, columns: int
    ) -> Shaped[Tensor, "*p q"] | None:
        """Positions of the last `columns`: the caller's, moved up by what a vision stage took.

        The caller's own where rows keep theirs. Floats where they have moved: a rotation makes them
        floats in any case, so that moving costs no operation of its own.
        """
        if self.shift is None:
            return given
        if given is None:
            return self._behind(self._entered, columns)
        return given - self.shift.on(given.device)

    def _behind(self, layout: Layout, columns: int) -> Int[Tensor, "#b q"]:
        """Positions of the last columns, counted behind the rows of a layout."""
        first = self.later - columns
        if self.whole:
            first += layout.width
            return torch.arange(first, first + columns, device=layout.device).unsqueeze(0)
        if id(layout) not in self._lengths:
            self._lengths[id(layout)] = Table(np.array(layout.lengths)[:, None])
        rows = self._lengths[id(layout)].on(layout.device)
        return (rows + self.generated.long().cumsum(1) - 1)[:, first:]

    def own_positions(self, number: int, columns: int) -> Int[Tensor, "#b q"] | None:
        """Of the last `columns` in the layers of a layout; None where they are as in layer 0."""
        counted = self.counted[number]
        return self._behind(self.layouts[counted], columns) if counted else None

    def lag(self, number: int) -> Table | None:
        """How far positions in a layout are behind those in layer 0; None: not at all."""
        if not self.counted[number]:
            return None
        entered, left = self._entered.lengths, self.layouts[self.counted[number]].lengths
        return Table((np.array(entered) - np.array(left))[:, None])

    def kept_labels(self, labels: Int[Tensor, "b s"]) -> Int[Tensor, "b m"]:
        """Labels of the caller's columns, on those of the last layout; padding has none."""
        last = self.layouts[-1].valid
        if self.origin is None or labels.shape[1] != self.seen:
            return labels
        kept = labels.gather(1, self.origin.on(labels.device))
        return kept.masked_fill(~last.to(labels.device), IGNORED)

    # what is left of a video

    def seen_below(self, unit: Unit, layer: int) -> tuple[int, ...]:
        """How many tokens of a video each LLM layer below `layer` saw."""
        return tuple(self.tokens[self.at(number)][unit] for number in range(layer))

    def visual_rows(self, sample: int, depth: int) -> list[int]:
        """How many every LLM layer sees at prefill."""
        own = [unit for unit in self.units if unit.sample == sample]
        seen = [sum(tokens[unit] for unit in own) for tokens in self.tokens]
        return [seen[self.at(layer)] for layer in range(depth)]
