"""One prompt under compression: runs the pipeline's stages on every sample, and remembers what is
where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from tokenprune.guards import contract
from tokenprune.runtime.layout import Layout, take
from tokenprune.runtime.partitioned_cache import Pages
from tokenprune.runtime.report import SampleReport, StageReport
from tokenprune.strategy import DecodeStage, Pipeline, PrefillStage, VisionStage
from tokenprune.tokens import TEXT, SequenceView, VisualTokens

IGNORED = -100  # the label of what counts for no loss, in torch and in transformers


class Prompt:
    """The layouts of a padded batch, from layer to layer, and the decode state of its samples.

    Strategies see one sample at a time, unpadded; what they return is checked against the budget
    they were given.
    """

    def __init__(self, pipeline: Pipeline, layout: Layout, videos: list[int]) -> None:
        self.pipeline, self.videos = pipeline, videos
        self.layouts = [layout]
        self.starts = [0]  # first LLM layer of each layout
        self.columns: list[Int[Tensor, "b m"]] = []  # of each later layout, in the layout before
        # of the last layout, in the caller's; None while they are one
        self.origin: Int[Tensor, "b m"] | None = None
        self.weights: dict[int, Float[Tensor, "f"]] = {}  # an allocator's, by sample
        # rows a vision stage took out: positions moved up by as many
        self.shift: Int[Tensor, "b"] | None = None
        self.seen = layout.valid.shape[1]  # columns the caller has sent so far
        self.generated = layout.valid[:, :0]  # validity of the columns after the prompt
        self._gaps = False  # whether one of them is not real
        self._padded: dict[int, bool] = {}  # by number of a layout
        self.reports: list[SampleReport | None] = [
            SampleReport(layout.frames, layout.cells) if sample in videos else None
            for sample in range(len(layout.valid))
        ]
        self.pages = Pages()
        self._states: dict[int, Any] = {}
        self._shown: dict[int, Bool[Tensor, "t"]] = {}  # what each sample's last step attended to

    def at(self, layer: int) -> int:
        """Number of the layout that `layer` runs on."""
        return max(number for number, start in enumerate(self.starts) if start <= layer)

    def until(self, number: int, depth: int) -> int:
        """The LLM layer past the last one that runs on a layout."""
        return [*self.starts, depth][number + 1]

    def validity(self, number: int) -> Bool[Tensor, "b t"]:
        """Which cached columns of a layout are real, generated ones included."""
        return self.layouts[number].grow(self.generated)

    def mask(self, number: int) -> Bool[Tensor, "b t"] | None:
        """`validity`, or None where every column is real; asks the device about a layout only once."""
        if number not in self._padded:
            self._padded[number] = self.layouts[number].mask is not None
        return self.validity(number) if self._padded[number] or self._gaps else None

    def realign(self, given: dict[str, Any]) -> dict[str, Any]:
        """Drops what a second turn repeats.

        `generate` skips as many ids as the cache has rows, but the cache of a compressed prompt is
        shorter than what it has seen; mask and positions, which count the uncompressed prompt, tell
        how many ids are new.
        """
        ids = given.get("input_ids")
        if ids is None:
            return given
        mask, positions = given.get("attention_mask"), given.get("position_ids")
        total = self.seen + ids.shape[1]
        if mask is not None and mask.ndim == 2:
            total = mask.shape[1]
        elif positions is not None:
            total = int(positions.max()) + 1
        new = total - self.seen
        if not 0 < new < ids.shape[1]:
            return given
        moved = {} if positions is None else {"position_ids": positions[..., -new:]}
        return {**given, "input_ids": ids[:, -new:], **moved}

    def extend(self, columns: int, mask: Bool[Tensor, "b t"] | Int[Tensor, "b t"] | None) -> None:
        """Takes note of columns that follow the prompt."""
        tail = (
            self.generated.new_ones(len(self.generated), columns)
            if mask is None
            else mask[:, -columns:].bool()
        )
        self._gaps = self._gaps or (mask is not None and not bool(tail.all()))
        self.generated = torch.cat([self.generated, tail], dim=1)
        self.seen += columns

    def step_positions(
        self, given: Int[Tensor, "p q"] | None, columns: int
    ) -> Int[Tensor, "b q"] | None:
        """Positions of the last `columns`: the caller's, moved up by what a vision stage took out."""
        if self.shift is None:
            return given
        if given is not None:
            return given - self.shift.unsqueeze(-1).to(given.device)
        return (self.validity(0).long().cumsum(1) - 1)[:, -columns:]

    def compress(
        self, embeds: Float[Tensor, "b s d"], videos: Sequence[VisualTokens]
    ) -> Float[Tensor, "b m d"]:
        """Runs the vision stages and returns the input embeddings of the shorter sequence."""
        done = [
            self._compress_one(sample, tokens)
            for sample, tokens in zip(self.videos, videos, strict=True)
        ]
        before = self.layouts[0]
        number = torch.zeros_like(before.row[:, 0])
        number[self.videos] = torch.tensor([len(tokens) for tokens in done], device=number.device)
        # the first rows of the video's span hold what is left of it
        kept = ~before.visual | (before.frame * before.cells + before.slot < number.unsqueeze(-1))
        after, columns = before.keep(kept)
        packed, self.origin = take(embeds, columns), columns
        frame, slot = after.frame.clone(), after.slot.clone()
        for sample, tokens in zip(self.videos, done, strict=True):
            span = after.visual[sample]
            packed[sample, span] = tokens.features.to(packed.dtype)
            frame[sample, span], slot[sample, span] = tokens.frame, tokens.slot
        removed = before.valid.sum(1) - after.valid.sum(1)
        if bool(removed.any()):
            self.shift = removed
        row = (after.valid.cumsum(1) - 1).clamp(min=0)
        self.layouts[0] = replace(after, frame=frame, slot=slot, row=row)
        return packed

    def _compress_one(self, sample: int, tokens: VisualTokens) -> VisualTokens:
        for stage in self.pipeline.of(VisionStage):
            budget = self.pipeline.budget(stage, tokens, self.weights.get(sample), sample)
            after = contract.ask(stage, "compress", tokens, budget, sample=sample)
            self._note(stage, sample, None, contract.kept(stage, tokens, budget, after))
            tokens = after
        return tokens

    def positions(self) -> Int[Tensor, "b m"] | None:
        """Contiguous positions after a vision stage; None while nothing moved."""
        return None if self.shift is None else self.layouts[0].row

    def prune(
        self, layer: int, stages: Sequence[PrefillStage], attention: Float[Tensor, "b s"]
    ) -> Int[Tensor, "b m"]:
        """Runs the prefill stages of `layer`, opens its layout and returns the surviving columns."""
        before = self.layouts[-1]
        kept = before.valid.clone()
        for stage in stages:
            for sample in self.videos:
                here = kept[sample].nonzero().squeeze(-1)
                view = SequenceView(
                    before.frame[sample, here],
                    before.row[sample, here],
                    attention[sample, here],
                    before.frames,
                )
                budget = self.pipeline.budget(stage, view, self.weights.get(sample), sample)
                survives = contract.ask(stage, "prune", view, budget, sample=sample)
                self._note(stage, sample, layer, contract.survivors(stage, view, budget, survives))
                kept[sample, here] = survives
        after_all, columns = before.keep(kept)
        self.layouts.append(after_all)
        self.starts.append(layer)
        self.columns.append(columns)
        self.origin = columns if self.origin is None else self.origin.gather(1, columns)
        return columns

    def kept_labels(self, labels: Int[Tensor, "b s"]) -> Int[Tensor, "b m"]:
        """Labels of the caller's columns, on those of the last layout; padding has none."""
        last = self.layouts[-1].valid
        if self.origin is None or labels.shape[1] != self.seen:
            return labels
        kept = labels.gather(1, self.origin.to(labels.device))
        return kept.masked_fill(~last.to(labels.device), IGNORED)

    def _note(
        self,
        stage: VisionStage | PrefillStage,
        sample: int,
        layer: int | None,
        counts: contract.Counts,
    ) -> None:
        before, budget, after = counts
        report = self.reports[sample]
        assert report is not None
        report.stages.append(StageReport(stage.name, layer, before, budget, after))
        report.asked *= sum(budget) / max(1, sum(before))

    def attend(self, stage: DecodeStage, attention: Float[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """Runs the decode stage for one generated token: the cached columns it attends to from
        `stage.layer` up.
        """
        number = self.at(stage.layer)
        layout, valid, tail = self.layouts[number], self.mask(number), self.generated.shape[1]
        text, width = layout.frame.new_full((tail,), TEXT), layout.valid.shape[1]
        visible = self.validity(number)  # just made, so it may be written to
        for sample in self.videos:
            # without padding nothing has to be looked up, which would wait for the device
            here = slice(None) if valid is None else valid[sample]
            rows = width if valid is None else int(layout.valid[sample].sum())
            view = SequenceView(
                frame=torch.cat([layout.frame[sample], text])[here],
                position=torch.cat(
                    [layout.row[sample], torch.arange(rows, rows + tail, device=text.device)]
                )[here],
                attention=attention[sample][here],
                frames=layout.frames,
            )
            if first := sample not in self._states:
                self._states[sample] = contract.start(stage, sample)
            shown, self._states[sample] = contract.shown(
                stage, view, self._states[sample], first, sample
            )
            visual = view.visual
            visible[sample, here] = shown = shown | ~visual
            report = self.reports[sample]
            assert report is not None
            report.steps.append((shown & visual).sum())
            if (before := self._shown.get(sample)) is not None:
                report.changes.append((shown[: len(before)] != before).any())
            self._shown[sample] = shown
        return visible

    def carry(self, values: Shaped[Tensor, "b t"], number: int) -> Shaped[Tensor, "b u"]:
        """Values on the cached columns of layout `number - 1`, on those of layout `number`."""
        width = self.layouts[number - 1].valid.shape[1]
        return torch.cat(
            [values[:, :width].gather(1, self.columns[number - 1]), values[:, width:]], dim=1
        )

    def finish(self, depth: int) -> None:
        """Writes down what every layer saw, once the prompt has gone through all of them."""
        last = self.layouts[-1]
        for sample, report in enumerate(self.reports):
            if report is None:
                continue
            seen = [int(layout.counts(sample).sum()) for layout in self.layouts]
            report.layers = [seen[self.at(layer)] for layer in range(depth)]
            visual = last.visual[sample]
            frame, slot = last.frame[sample][visual], last.slot[sample][visual]
            report.slots = [
                cells.tolist()
                for cells in slot.split(torch.bincount(frame, minlength=last.frames).tolist())
            ]
            if (weights := self.weights.get(sample)) is not None:
                report.frame_weights = weights.tolist()

    def count_step(self) -> None:
        """Notes a decoding step without a decode stage: everything cached by the last layer is
        visible.
        """
        for report in self.reports:
            if report is not None:
                report.steps.append(report.layers[-1])
