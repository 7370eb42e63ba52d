"""A stage inside the vision tower, carried by hooks on the stock tower's layers.

It works while videos are encoded. Images beside them come as tiles of several sizes, and their
tower call is as always.

Axes: `f` frames, `r` rows of one on the tower's grid (patches, and CLS before them), `d` width.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from torch import nn

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.rows import sources, spans
from tokenprune.errors import StrategyError, UnsupportedGenerationError, UnsupportedModelError
from tokenprune.guards import tower
from tokenprune.runtime.attention import Tap
from tokenprune.runtime.hooks import Hook
from tokenprune.runtime.report import Report
from tokenprune.runtime.tapping import Taps
from tokenprune.runtime.tower import TowerReading
from tokenprune.runtime.tower_call import TowerCall
from tokenprune.runtime.tower_merging import Merging
from tokenprune.runtime.tower_report import TowerShare
from tokenprune.runtime.tower_reuse import Reusing
from tokenprune.strategy import Pipeline, TowerMerger, TowerReuser, TowerStage


def check_tower(model: VideoLLM, pipeline: Pipeline) -> None:
    """Raises StrategyError for a stage that this model's tower cannot have."""
    if (stage := pipeline.tower_stage) is None:
        return
    try:
        blocks = model.tower_blocks
    except (UnsupportedModelError, AttributeError) as error:
        raise StrategyError(f"{stage.name} works inside the vision tower: {error}") from None
    kernel = model.tower.config._attn_implementation or "eager"
    if isinstance(stage, TowerMerger) and stage.proportional and kernel not in ("sdpa", "eager"):
        raise StrategyError(
            f"{stage.name} adds the sizes of merged rows to attention, which {kernel!r} does not "
            f"take: load the vision tower with attn_implementation='sdpa', or write "
            f"{stage.name}.proportional=false"
        )
    if isinstance(stage, TowerMerger):
        tower.removed(stage, len(blocks), model.tower_rows, int(model.cls))


class _Now(threading.local):
    """What the current thread's tower is called for."""

    def __init__(self) -> None:
        self.videos: tuple[list[int] | None] | None = None  # None: not videos
        self.call: TowerCall | None = None


class Inside:
    """The tower stage of an open session."""

    def __init__(self, adapter: VideoLLM, stage: TowerStage, taps: Taps) -> None:
        self._adapter, self._stage, self._taps = adapter, stage, taps
        self._blocks, self._now = adapter.tower_blocks, _Now()

    def hook(self, stack: ExitStack) -> None:
        """Puts the hooks on, which closing `stack` takes off."""
        kind = Merging if isinstance(self._stage, TowerMerger) else Reusing
        for handle in kind.hooks(self._blocks, lambda: self._now.call):
            stack.callback(handle.remove)
        handle = self._adapter.tower.register_forward_hook(
            Hook(self._after_tower), always_call=True
        )
        stack.callback(handle.remove)
        stack.enter_context(self._told())

    def begin(self, given: Mapping[str, Any], reading: TowerReading) -> None:
        """The tower is about to run."""
        now = self._now
        now.call = None
        if now.videos is None:
            return
        if compat.checkpoints(self._blocks[0].layer):
            raise UnsupportedGenerationError(
                f"{self._stage.name} works inside the vision tower, whose layers run again in the "
                "backward pass (gradient checkpointing): switch that off for the tower, or put it "
                "in eval()"
            )
        (lengths,) = now.videos
        now.call = self._call(given, lengths)
        reading.inside = now.call
        self._taps.update(now.call.taps())

    def around(self, tap: Tap) -> Tap:
        """A tap on the layer that the projector takes, which sees all rows of the grid."""
        call, module = self._now.call, self._adapter.tower_attention
        return tap if call is None else call.on_grid(module, tap)

    def note(self, report: Report, readings: Sequence[TowerReading]) -> None:
        """Writes down what the tower's layers worked on for each sample of a prompt.

        Raises UnsupportedGenerationError where frames of several samples were taken for one video.
        """
        videos = [() if sample is None else sample.videos for sample in report.samples]
        known = [reading for reading in readings if reading.inside is not None]
        if not known or known[-1].inside is None:
            return
        call, numbers = known[-1].inside, sources(videos, known[-1].tokens)
        self._check_apart(max(numbers, default=0) + 1)
        parts = iter(spans(numbers, [video.frames for own in videos for video in own]))
        for sample, own in zip(report.samples, videos, strict=True):
            for video in own:
                assert sample is not None
                share = TowerShare(tuple(call.worked(next(parts))), video.frames * call.rows)
                sample.tower = share if sample.tower is None else sample.tower + share

    def _check_apart(self, videos: int) -> None:
        """Whether a reuser was told where each of several videos begins."""
        model, stage = self._adapter, self._stage
        if videos > 1 and model.modality == "image" and isinstance(stage, TowerReuser):
            raise UnsupportedGenerationError(
                f"{stage.name} compares a frame with the one before it, and {model.model_type} "
                "hands its tower the frames of all samples as one row: send one video at a time"
            )

    def _call(self, given: Mapping[str, Any], lengths: list[int] | None) -> TowerCall:
        adapter, first = self._adapter, int(self._adapter.cls)
        patches = adapter.tower_patches(given)
        frames = len(patches)
        if isinstance(self._stage, TowerReuser):
            split = patches.split(lengths or [frames])
            return Reusing.of(self._stage, self._blocks, split, first)
        assert isinstance(self._stage, TowerMerger)
        return Merging(self._stage, self._blocks, frames, patches.shape[1] + first, first)

    def _after_tower(self, module: nn.Module, args: Any, output: Any) -> None:
        """Gives every row of the grid what stands for it."""
        call, self._now.call = self._now.call, None
        for block in self._blocks:
            self._taps.pop(block.attention, None)
        if call is None or output is None:
            return
        states = output.get("hidden_states")
        if states is not None:
            every = enumerate(states)
            output["hidden_states"] = tuple(
                part if part is None else call.whole(number, part) for number, part in every
            )
        output["last_hidden_state"] = call.whole(len(self._blocks), output["last_hidden_state"])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """While open, the model's encoder of videos says when it runs, and for which.

        Its own name leads to ours on this one instance: no hook of a module tells videos from
        images, and none the frames of one video from those of the next.
        """
        body, name = self._adapter.body, f"get_{self._adapter.modality}_features"
        before, encode = vars(body).get(name), getattr(body, name)

        @wraps(encode)
        def told(*args: Any, **kwargs: Any) -> Any:
            given = inspect.signature(encode).bind(*args, **kwargs).arguments
            self._now.videos = (self._adapter.lengths(given),)
            try:
                return encode(*args, **kwargs)
            finally:
                self._now.videos = None

        setattr(body, name, told)
        try:
            yield
        finally:
            if vars(body).get(name) is told:  # else the user's own, which stays
                delattr(body, name)
                if before is not None:
                    setattr(body, name, before)
