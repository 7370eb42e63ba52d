"""What was really kept: measured per sample, stage, frame and layer, never copied from an option."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tokenprune.runtime.slots import pack


@dataclass(frozen=True)
class StageReport:
    """One stage on one sample; lists are per frame."""

    strategy: str
    layer: int | None  # LLM layer it acted before; None: at the LLM's input
    before: list[int]
    budget: list[int]
    after: list[int]


@dataclass
class SampleReport:
    """One video of one prompt, from the tower's output to the last decoding step."""

    frames: int
    cells: int
    stages: list[StageReport] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)  # visual tokens each LLM layer saw at prefill
    # per frame, cells whose token reached the last layer
    slots: list[list[int]] = field(default_factory=list)
    frame_weights: list[float] | None = None  # of an allocator
    # visual rows visible at each decoding step, see `decode`
    steps: list[Tensor | int] = field(default_factory=list)
    # of each step but the first, see `decode_changes`
    changes: list[Tensor] = field(default_factory=list)
    asked: float = 1.0  # fraction the stages were asked to leave, after the last of them

    @property
    def full(self) -> int:
        """Visual tokens without compression."""
        return self.frames * self.cells

    @property
    def kept(self) -> int:
        """Visual tokens at the LLM's input."""
        return self.layers[0]

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
        """Visual rows visible at each decoding step, in the layers of the decode stage or else in
        the last layer.
        """
        return [int(step) for step in self.steps]

    @property
    def decode_changes(self) -> int:
        """Decoding steps that saw other visual rows than the step before them."""
        return sum(int(changed) for changed in self.changes)

    def end(self, steps: int) -> None:
        """Forgets what lies beyond `steps` decoding steps: others of its batch were still answering
        then.
        """
        del self.steps[steps:], self.changes[max(0, steps - 1) :]

    @property
    def decode_ratio(self) -> float | None:
        """`decode` as a kept fraction, averaged over steps; None if nothing was decoded after the
        first token.
        """
        return statistics.fmean(self.decode) / self.full if self.steps else None

    def as_dict(self) -> dict[str, Any]:
        """For `records.jsonl`: plain numbers and lists; `slots.unpack` gives the slots back."""
        return {
            "full": self.full,
            "kept": self.kept,
            "asked_ratio": self.asked,
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
            **({"frame_weights": self.frame_weights} if self.frame_weights is not None else {}),
        }


@dataclass
class Report:
    """One prompt: a batch of samples (None where a sample has no video) and, if timed, where the
    time went.
    """

    samples: list[SampleReport | None]
    clock: Clock
    probe_layers: int = 0  # guide layers run over the uncompressed prompt

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
        laps = self.clock.laps
        decode, choosing = laps.get("decode", []), laps.get("choosing", [])
        return {
            **{
                f"{name}_ms": 1e3 * sum(laps.get(name, [0.0]))
                for name in ("vision", "strategy", "probe", "prefill")
            },
            "decode_ms_per_token": 1e3 * (sum(decode) + sum(choosing)) / len(decode)
            if decode
            else None,
            "choosing_ms_per_token": 1e3 * sum(choosing) / len(decode) if choosing else None,
        }


class Clock:
    """Laps in seconds by name; waits for the device, so it is off unless timing is asked for.

    A lap inside another is not counted twice: a strategy that runs within the prefill is taken out
    of it.
    """

    def __init__(self, device: torch.device, on: bool) -> None:
        self.device, self.on = device, on
        self.laps: dict[str, list[float]] = {}
        self._inner = 0.0

    def now(self) -> float:
        if self.on and self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def add(self, name: str, since: float) -> None:
        """Ends a lap that began at `since`, without what inner laps took."""
        if self.on:
            self.laps.setdefault(name, []).append(self.now() - since - self._inner)
        self._inner = 0.0

    def forget_inner(self) -> None:
        """What inner laps took so far lies outside the lap that begins now."""
        self._inner = 0.0

    @contextmanager
    def inner(self, name: str) -> Iterator[None]:
        """A lap within another."""
        if not self.on:
            yield
            return
        outer, self._inner, since = self._inner, 0.0, self.now()
        try:
            yield
        finally:
            taken = self.now() - since
            self.laps.setdefault(name, []).append(taken - self._inner)
            self._inner = outer + taken
