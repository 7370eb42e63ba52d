"""What was really kept, per sample, stage, frame and layer: measured, not copied from an option."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from tokenprune.dataframe import data_frame
from tokenprune.guards.promises import Promises
from tokenprune.runtime.clock import Clock
from tokenprune.runtime.compiled_steps import CompiledSteps
from tokenprune.runtime.owed import Owing
from tokenprune.runtime.showing import Pictures, Shown, sheet_of, shown
from tokenprune.runtime.slots import pack
from tokenprune.runtime.stage_report import FIGURES, Done, ProbeReport, StageReport, joined
from tokenprune.runtime.tower_report import TowerShare
from tokenprune.tokens import Video


@dataclass
class SampleReport(Owing):
    """The videos of one sample, from the tower's output to the last decoding step.

    Frames are counted through all of them.
    """

    videos: tuple[Video, ...]
    # rows of the videos that are no tokens of theirs (newlines, CLS), and how many entered the LLM
    beside: tuple[int, int] = (0, 0)
    stages: list[StageReport] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)  # visual tokens each LLM layer saw at prefill
    # of each video that was merged at the LLM's input, the row that each of its tokens went into,
    # counted through the tokens that were left of it; -1: dropped
    members: list[Tensor] = field(default_factory=list)
    tower: TowerShare | None = None  # under a stage inside the vision tower: what its layers did
    # per frame, cells whose token reached the last layer
    slots: list[list[int]] = field(default_factory=list)
    frame_weights: list[float] | None = None  # of an allocator
    # visual rows visible at each decoding step, see `decode`
    steps: list[Tensor | int] = field(default_factory=list)
    # of each step but the first, see `decode_changes`
    changes: list[Tensor] = field(default_factory=list)
    compiled: CompiledSteps | None = field(default=None, repr=False, compare=False)

    @property
    def frames(self) -> int:
        return sum(video.frames for video in self.videos)

    @property
    def cells(self) -> int:
        """Visual tokens of a frame without compression, of the largest ones."""
        return max(video.cells for video in self.videos)

    @property
    def full(self) -> int:
        """Visual tokens without compression."""
        return sum(video.tokens for video in self.videos)

    def note(self, done: Sequence[Sequence[Done]]) -> None:
        """Takes down what the same stages did to each of the videos, in order.

        Of a stage that comes by again and again only what it did. Figures that a device holds are
        read with the report.
        """
        before = self.owed("stages") or partial(list, self.stages)
        self.owe("stages", lambda: joined(before(), zip(*done, strict=True)))

    @property
    def kept(self) -> int:
        """Visual tokens at the LLM's input; `merged` says whether some stand for several."""
        return self.layers[0]

    @property
    def merged(self) -> bool:
        """Whether kept rows may be merged ones."""
        return any(stage.merged for stage in self.stages)

    @property
    def requested_ratio(self) -> float:
        """Fraction that the stages were asked to leave, after the last of them."""
        ratios = (sum(stage.budget) / max(1, sum(stage.before)) for stage in self.stages)
        return math.prod(ratios, start=1.0)

    @property
    def unseen_from(self) -> int | None:
        """The first LLM layer that sees no token of the video; None where all layers see some."""
        return next((layer for layer, seen in enumerate(self.layers) if not seen), None)

    @property
    def input_ratio(self) -> float:
        """Kept fraction at the LLM's input."""
        return self.kept / self.full

    @property
    def layer_average_ratio(self) -> float:
        """Kept fraction averaged over LLM layers at prefill."""
        return statistics.fmean(self.layers) / self.full

    @property
    def decode(self) -> list[int]:
        """Visual rows visible at each decoding step.

        Counted in the layers of the decode stage, without one in the last layer.
        """
        self.catch_up()
        return [int(step) for step in self.steps]

    @property
    def decode_changes(self) -> int:
        """Decoding steps that saw other visual rows than the step before them."""
        self.catch_up()
        return sum(int(changed) for changed in self.changes)

    def end(self, steps: int) -> None:
        """Forgets what lies beyond `steps` decoding steps.

        Others of its batch were still answering then.
        """
        self.catch_up()
        del self.steps[steps:], self.changes[max(0, steps - 1) :]
        if self.compiled is not None:
            self.compiled.end(len(self.steps))

    def catch_up(self) -> None:
        """Takes down the steps that compiled code has done since."""
        if self.compiled is not None:
            self.compiled.catch_up(self.steps, self.changes)

    @property
    def decode_ratio(self) -> float | None:
        """`decode` as a kept fraction, averaged over steps.

        None if nothing was decoded after the first token.
        """
        decode = self.decode
        return statistics.fmean(decode) / self.full if decode else None

    @property
    def figures(self) -> dict[str, Any]:
        """What was kept in plain numbers; ratios are fractions of the visual tokens."""
        return {name: getattr(self, name) for name in FIGURES}

    def show(
        self,
        frames: Pictures = (),
        *,
        seconds: Sequence[float | int] | None = None,
        label: str = "",
        answer: str = "",
    ) -> Shown:
        """A contact sheet: kept cells bright, dropped ones dark, and how many of each frame.

        Notebooks draw what is returned; `.save("sheet.html")` writes it.

        Args:
            frames: the video as it was shown, uint8 [f h w 3]; without them cells alone are drawn
            seconds: at which those frames appear
            label: what it is headed with; the stages' names by default
            answer: what the model said

        Raises TokenpruneError where as many frames cannot have been shown.
        """
        return shown([sheet_of(self, frames, seconds, label, answer)])

    def _repr_html_(self) -> str:
        return self.show().html

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row per frame. ImportError says what to install.

        `cells` before anything was left out, those `kept` (that reached the last layer), an
        allocator's `weight`, and each stage's budget.
        """
        weights = self.frame_weights or [None] * self.frames
        cells = [video.cells for video in self.videos for _ in range(video.frames)]
        budgets = {f"{stage.strategy}_budget": stage.budget for stage in self.stages}
        rows = (
            {
                "frame": number,
                "cells": cells[number],
                "kept": len(self.slots[number]),
                "weight": weights[number],
                **{name: budget[number] for name, budget in budgets.items()},
            }
            for number in range(self.frames)
        )
        return data_frame(rows)

    def as_dict(self) -> dict[str, Any]:
        """For `records.jsonl`: plain numbers and lists; `slots.unpack` gives the slots back."""
        more = {"frame_weights": self.frame_weights, "tower": self.tower and self.tower.as_dict()}
        return {
            "videos": [list(video) for video in self.videos],  # frames, height, width in tokens
            "beside": list(self.beside),
            "full": self.full,
            "kept": self.kept,
            "merged": self.merged,
            "requested_ratio": self.requested_ratio,
            "input_ratio": self.input_ratio,
            "layer_average_ratio": self.layer_average_ratio,
            "decode_ratio": self.decode_ratio,
            "kept_per_frame": [len(slots) for slots in self.slots],
            "kept_per_layer": self.layers,
            "unseen_from": self.unseen_from,
            "decode_visible": self.decode,
            "decode_changes": self.decode_changes,
            "stages": [vars(stage) for stage in self.stages],
            "slots": pack(self.slots, self.cells),
            **{name: part for name, part in more.items() if part is not None},
        }


@dataclass
class Report:
    """One prompt: a batch of samples, None where one has no video.

    If timed, the clock knows where the time went.
    """

    samples: list[SampleReport | None]
    clock: Clock
    probe: ProbeReport = field(default_factory=ProbeReport)  # what an allocator's guide did
    promises: Promises = field(default_factory=Promises, repr=False, compare=False)

    def __getitem__(self, sample: int) -> SampleReport:
        found = self.samples[sample]
        if found is None:
            raise LookupError(
                f"sample {sample} of this prompt holds no video, so nothing was compressed"
            )
        return found

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def probe_layers(self) -> int:
        """Guide layers that ran over the prompt before it was compressed."""
        return self.probe.layers

    def _repr_html_(self) -> str:
        return shown([sheet_of(one) for one in self.samples if one is not None]).html

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row per sample that holds a video. ImportError says what to
        install.
        """
        return data_frame(
            {"sample": place, **one.figures}
            for place, one in enumerate(self.samples)
            if one is not None
        )

    @property
    def unseen_from(self) -> int | None:
        """`SampleReport.unseen_from`, the lowest of the samples'."""
        layers = [sample.unseen_from for sample in self.samples if sample is not None]
        return min((layer for layer in layers if layer is not None), default=None)

    @property
    def time(self) -> dict[str, float | None]:
        """Milliseconds of the whole batch; no part is inside another.

        Tower and projector; strategies before the first token, with what they read in the tower; an
        allocator's probe; the rest of the LLM's prefill; and per decoded token, of which `choosing`
        is a decode stage's part.
        """
        return self.clock.milliseconds()
