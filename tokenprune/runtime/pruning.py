"""One event of prefill stages: before a layer, sample by sample and stage by stage.

Axes: `b` samples, `s` columns of the layout that the layer below saw, `m` rows of one sample, `d`
LLM width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenprune import hosted, ops
from tokenprune.guards import contract, masks
from tokenprune.runtime.held import Held
from tokenprune.runtime.layout import Unit
from tokenprune.runtime.prompt_state import Change, PromptState
from tokenprune.runtime.reading import Below, LiveReading
from tokenprune.runtime.stage_report import Done
from tokenprune.runtime.table import Table, send, take
from tokenprune.sequence import TEXT, SequenceView, Survivors
from tokenprune.strategy import Pipeline, PrefillStage, Settled


@dataclass(frozen=True)
class Around:
    """The model around an event."""

    below: Below
    inputs: Callable[[int], Float[Tensor, "p d"]]  # what entered layer 0, by sample
    norm: Callable[[Tensor], Tensor]  # in front of the language model's head
    depth: int
    preferred: Settled  # positions of rows behind tokens that are gone


class Event:
    """What the stages of one layer leave of every sample, in the order in which rows go on."""

    def __init__(
        self,
        pipeline: Pipeline,
        prompt: PromptState,
        layer: int,
        hidden: Float[Tensor, "b s d"],
        around: Around,
    ) -> None:
        self._pipeline, self._prompt, self._layer = pipeline, prompt, layer
        self._around, self._before = around, prompt.layouts[-1]
        self._whole = [Held.of(self._before, sample) for sample in range(self._before.samples)]
        self._held = [*self._whole]
        self._hidden, self._copied = hidden, False
        # what rows have become, which is not written yet
        self._pending: dict[int, tuple[Held, Tensor]] = {}
        self._tokens = dict(prompt.tokens[-1])
        self._budgets: dict[Unit, Tensor] = {}
        self._dropped = self._moved = self._anew = self._forgets = False

    @property
    def change(self) -> Change | None:
        """What a new layout means; None where the rows and their order stay."""
        if not self._dropped:
            return None
        return Change(self._tokens, self._budgets, self._moved, self._anew, self._forgets)

    @property
    def hidden(self) -> Float[Tensor, "b s d"]:
        """Hidden states, with what rows have become: in a copy, since they belong to the model."""
        for sample, (held, rows) in self._pending.items():
            if not self._copied:
                self._hidden, self._copied = self._hidden.clone(), True
            device = self._hidden.device
            columns = held.columns(device).to(device)
            self._hidden[sample].index_copy_(0, columns, rows.to(device))
        self._pending.clear()
        return self._hidden

    def left(self, columns: Int[Tensor, "*b m"]) -> Float[Tensor, "b m d"]:
        """Hidden states at the columns of the rows that are left."""
        if len(self._held) == 1 and (made := self._pending.get(0)) and made[0] is self._held[0]:
            return made[1].unsqueeze(0).to(self._hidden.device)
        return take(self.hidden, columns)

    @property
    def lengths(self) -> list[int]:
        """Rows that are left of each sample."""
        return [held.number for held in self._held]

    @property
    def columns(self) -> Table:
        """The columns of the rows that are left, all samples padded as they were before."""
        device, lengths = self._before.device, self.lengths
        rows, width = [held.columns(device) for held in self._held], max(lengths)
        if min(lengths) < width:
            right = self._before.ends_padded
            gaps = [(0, width - own) if right else (width - own, 0) for own in lengths]
            rows = [pad(own, gap) for own, gap in zip(rows, gaps, strict=True)]
        columns = rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)
        return Table(made=lambda: columns)

    def run(
        self, stages: Sequence[PrefillStage], weights: Mapping[Unit, Float[Tensor, "f"]]
    ) -> None:
        """Asks the stages one after another about every video, and writes their reports."""
        done: dict[int, list[list[Done]]] = {}
        for unit in self._prompt.units:
            reports = [self._ask(unit, stage, weights.get(unit)) for stage in stages]
            done.setdefault(unit.sample, []).append(reports)
        for sample, parts in done.items():
            self._prompt.report[sample].note(parts)

    def _ask(self, unit: Unit, stage: PrefillStage, weights: Float[Tensor, "f"] | None) -> Done:
        view, held = self._view(unit)
        budget = self._pipeline.budget(stage, view, weights, unit.sample)
        left = contract.ask(stage, "prune", view, budget, sample=unit.sample)
        before, promises = self._tokens[unit], self._prompt.report.promises
        found = masks.survivors(stage, view, budget, left, promises)
        hosted.forget_choice(budget)  # which goes on living
        merged = isinstance(left, Survivors) and left.hidden is not None
        if isinstance(left, Survivors):
            assert found.rows is not None
            self._held[unit.sample] = held.some(found.rows)
            if left.hidden is not None:
                self._pending[unit.sample] = self._held[unit.sample], left.hidden
        elif found.total < before:
            self._drop(unit.sample, held, left, held.number - before + found.total)
        # where rows have moved before, a view's order is not that of the sequence
        moved = found.moved or (isinstance(left, Survivors) and (self._moved or self._prompt.moved))
        if found.total < before or moved:
            self._dropped, self._moved = True, self._moved or moved
            self._anew = self._anew or self._pipeline.counts_anew(stage, self._around.preferred)
            self._forgets = self._forgets or stage.forgets
        self._tokens[unit], self._budgets[unit] = found.total, budget
        merges = merged or stage.merges
        return Done(stage.name, self._layer, found.counts, merged=merges)

    def _view(self, unit: Unit) -> tuple[SequenceView, Held]:
        """The rows that are left of a video's sample, and their columns.

        Visual rows stand in a view as they entered layer 0, also where they go on otherwise.
        """
        sample, held = unit.sample, self._held[unit.sample]
        later: dict[str, Callable[[], Tensor]] = {}
        if (words := self._prompt.layouts[0].words(unit)) is not None:
            later["words"] = partial(send, words + held.number, self._before.device)
        if held is self._whole[sample] and not self._prompt.moved:
            own = self._prompt.own(unit)
            frame, position = own.frame, own.position
            later["slot"] = partial(getattr, own, "slot")
        else:
            row, number = self._before.row[sample], len(self._prompt.layouts) - 1
            frame = held.rows(self._prompt.frame(unit, number))
            if self._moved or self._prompt.moved:
                visual = ops.marked(frame != TEXT, self._tokens[unit])
                order = torch.arange(held.number, device=frame.device)
                entered = held.rows(row).index_select(0, visual).argsort()
                held = held.some(order.index_copy(0, visual, visual.index_select(0, entered)))
                frame = held.rows(self._prompt.frame(unit, number))
            position = held.rows(row)
            later["slot"] = partial(self._slots, sample, held)
            hosted.note_rows(frame, self._tokens[unit])
        reading = LiveReading(
            self._around.below,
            sample,
            held,
            self.hidden,
            lambda: self._around.inputs(sample),
            self._around.norm,
        )
        known: dict[str, Any] = {} if held.run is not None else {"place": held.index}
        view = SequenceView(
            frame=frame,
            position=position,
            frames=unit.video.frames,
            cells=unit.video.cells,
            layer=self._layer,
            depth=self._around.depth,
            below=self._prompt.seen_below(unit, self._layer),
            reading=reading,
            entered=self._prompt.layouts[0].entered(unit),
            later=later,
            **known,
        )
        return view, held

    def _slots(self, sample: int, held: Held) -> Int[Tensor, "s"]:
        return held.rows(self._before.slot[sample])

    def _drop(self, sample: int, held: Held, mask: Bool[Tensor, "m"], number: int) -> None:
        """Rows go on in their own order, whatever the view's is; `number` of them live."""
        own = self._held[sample]
        if own is not held:
            device = mask.device
            width = self._before.width
            alive = mask.new_zeros(width).index_copy(0, held.columns(device), mask)
            mask = own.rows(alive)
        self._held[sample] = own.some(ops.marked(mask, number))
