"""One event of prefill stages: before a layer, sample by sample and stage by stage.

Axes: `b` samples, `s` columns of the layout that the layer below saw, `m` rows of one sample, `d`
LLM width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.guards import contract, masks
from tokenprune.runtime.layout import Unit
from tokenprune.runtime.prompt_state import Change, PromptState
from tokenprune.runtime.reading import Below, LiveReading
from tokenprune.runtime.stage_report import StageReport
from tokenprune.sequence import OTHER, TEXT, SequenceView, Survivors
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
        self._rows = [self._real(sample) for sample in range(len(self._before.valid))]
        self.hidden, self._copied = hidden, False
        self._tokens = dict(prompt.tokens[-1])
        self._dropped = self._moved = self._anew = self._forgets = False

    @property
    def change(self) -> Change | None:
        """What a new layout means; None where the rows and their order stay."""
        if not self._dropped:
            return None
        return Change(self._tokens, self._moved, self._anew, self._forgets)

    @property
    def kept(self) -> Bool[Tensor, "b s"]:
        kept = torch.zeros_like(self._before.valid)
        for sample, rows in enumerate(self._rows):
            kept[sample, rows] = True
        return kept

    @property
    def place(self) -> Int[Tensor, "b s"] | None:
        """Where each row goes in its sample; None while they stay in order."""
        if not self._moved:
            return None
        place = torch.zeros_like(self._before.row)
        for sample, rows in enumerate(self._rows):
            place[sample, rows] = torch.arange(len(rows), device=rows.device)
        return place

    def run(
        self, stages: Sequence[PrefillStage], weights: Mapping[Unit, Float[Tensor, "f"]]
    ) -> None:
        """Asks the stages one after another about every video, and writes their reports."""
        done: dict[int, list[list[StageReport]]] = {}
        for unit in self._prompt.units:
            reports = [self._ask(unit, stage, weights.get(unit)) for stage in stages]
            done.setdefault(unit.sample, []).append(reports)
        for sample, parts in done.items():
            self._prompt.report[sample].note(parts)

    def _real(self, sample: int) -> Int[Tensor, "m"]:
        """Columns of a sample that are no padding."""
        valid = self._before.valid[sample]
        if self._around.below.mask is None:
            return torch.arange(len(valid), device=valid.device)
        return valid.nonzero().squeeze(-1)

    def _ask(
        self, unit: Unit, stage: PrefillStage, weights: Float[Tensor, "f"] | None
    ) -> StageReport:
        view, here = self._view(unit)
        budget = self._pipeline.budget(stage, view, weights, unit.sample)
        left = contract.ask(stage, "prune", view, budget, sample=unit.sample)
        counts, moved = masks.survivors(stage, view, budget, left)
        merged = isinstance(left, Survivors) and left.hidden is not None
        if isinstance(left, Survivors):
            # where rows have moved before, a view's order is not that of the sequence
            moved = moved or self._moved or self._prompt.moved
            self._rows[unit.sample] = here[left.rows]
            if left.hidden is not None:
                self._write(unit.sample, here[left.rows], left.hidden)
        else:
            self._drop(unit.sample, here, left)
        if counts[0] != counts[2] or moved:
            self._dropped, self._moved = True, self._moved or moved
            self._anew = self._anew or self._pipeline.counts_anew(stage, self._around.preferred)
            self._forgets = self._forgets or stage.forgets
        self._tokens[unit] = sum(counts[2])
        return StageReport(stage.name, self._layer, *counts, merged=merged or stage.merges)

    def _view(self, unit: Unit) -> tuple[SequenceView, Int[Tensor, "m"]]:
        """The rows that are left of a video's sample, and their columns.

        Visual rows stand in a view as they entered layer 0, also where they go on otherwise.
        """
        sample, here = unit.sample, self._rows[unit.sample]
        frames = self._prompt.frame(unit, len(self._prompt.layouts) - 1)
        frame = frames[here]
        if self._moved or self._prompt.moved:
            visual = (frame != TEXT).nonzero().squeeze(-1)
            order = torch.arange(len(here), device=here.device)
            order[visual] = visual[self._before.row[sample, here[visual]].argsort()]
            frame, here = frame[order], here[order]
        reading = LiveReading(
            self._around.below,
            sample,
            here,
            self.hidden,
            lambda: self._around.inputs(sample),
            self._around.norm,
        )
        view = SequenceView(
            frame=frame,
            position=self._before.row[sample, here],
            frames=unit.video.frames,
            slot=self._before.slot[sample, here],
            cells=unit.video.cells,
            layer=self._layer,
            depth=self._around.depth,
            seen=self._prompt.seen_below(unit, self._layer),
            reading=reading,
            place=here,
            entered=self._entered(unit),
        )
        return view, here

    def _entered(self, unit: Unit) -> Int[Tensor, "p"]:
        """Whose the rows are that entered layer 0."""
        first = self._prompt.layouts[0]
        valid = first.valid[unit.sample]
        own, every = self._prompt.frame(unit, 0), first.frame[unit.sample]
        return torch.where((own == TEXT) & (every != TEXT), OTHER, own)[valid]

    def _drop(self, sample: int, here: Int[Tensor, "m"], mask: Bool[Tensor, "m"]) -> None:
        """Rows go on in their own order, whatever the view's is."""
        alive = torch.zeros_like(self._before.valid[sample])
        alive[here] = mask
        rows = self._rows[sample]
        self._rows[sample] = rows[alive[rows]]

    def _write(self, sample: int, columns: Int[Tensor, "m"], rows: Float[Tensor, "m d"]) -> None:
        """What rows have become, in a copy: the hidden states belong to the model."""
        if not self._copied:
            self.hidden, self._copied = self.hidden.clone(), True
        self.hidden[sample, columns.to(self.hidden.device)] = rows
