"""Stages whose choice a test knows beforehand, and what is left of a prompt under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from families import Prompt
from handbuilt import Removal
from torch import Tensor

from tokenprune.strategy import DecodeStage, PrefillStage, VisionStage
from tokenprune.tokens import SequenceView, VisualTokens


def thin(rows: Tensor) -> Tensor:
    """Two of three: without the second, the fifth, the eighth."""
    return rows[torch.arange(len(rows)) % 3 != 1]


def thinned(visual: Tensor) -> Tensor:
    """A mask without those rows that `thin` leaves out of the visual ones."""
    kept = torch.ones_like(visual)
    rows = visual.nonzero().squeeze(-1)
    kept[rows] = torch.isin(rows, thin(rows))
    return kept


@dataclass(frozen=True)
class Thin(VisionStage):
    """Leaves two of three tokens of a video; `mixed` with their neighbours if asked."""

    mixed: bool = False

    def quota(self, tokens: VisualTokens) -> Tensor:
        return torch.bincount(
            tokens.frame[thin(torch.arange(len(tokens)))], minlength=tokens.frames
        )

    def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
        if self.mixed:
            tokens = tokens.with_features(mixed(tokens.features))
        return tokens[thin(torch.arange(len(tokens)))]


def mixed(features: Tensor) -> Tensor:
    """Every token half as what it was and half as the one before it."""
    return (features + features.roll(1, 0)) / 2


@dataclass(frozen=True)
class Early(PrefillStage):
    """Leaves two of three visual rows of a sample."""

    layer: int = 1

    def quota(self, view: SequenceView) -> Tensor:
        return torch.bincount(view.frame[view.visual & thinned(view.visual)], minlength=view.frames)

    def prune(self, view: SequenceView, budget: Tensor) -> Tensor:
        return thinned(view.visual)


@dataclass(frozen=True)
class Late(Early):
    layer: int = 2


@dataclass(frozen=True)
class Hide(DecodeStage[None]):
    """Shows words two of three visual rows."""

    layer: int = 2

    def start(self) -> None:
        return None

    def attend(self, view: SequenceView, state: None) -> tuple[Tensor, None]:
        return thinned(view.visual), None


@dataclass(frozen=True)
class Shown(VisionStage):
    """Keeps every token, and writes down what it was shown."""

    tokens: list[VisualTokens] = field(default_factory=list, hash=False)

    def quota(self, tokens: VisualTokens) -> Tensor:
        return tokens.counts

    def compress(self, tokens: VisualTokens, budget: Tensor) -> VisualTokens:
        self.tokens.append(tokens)
        return tokens


@dataclass(frozen=True)
class Seen(PrefillStage):
    """Keeps every row, and writes down what it was shown."""

    layer: int = 1
    views: list[SequenceView] = field(default_factory=list, hash=False)

    def quota(self, view: SequenceView) -> Tensor:
        return view.counts

    def prune(self, view: SequenceView, budget: Tensor) -> Tensor:
        self.views.append(view)
        return torch.ones_like(view.visual)


def frames_of(prompt: Prompt, sample: int) -> Tensor:
    """The frame of every row of a sample, unpadded."""
    real = prompt.inputs["attention_mask"][sample].bool()
    return prompt.frame[sample, real]


def left(prompt: Prompt, sample: int, stages: Sequence[Any]) -> Removal:
    """What the stages above leave of a sample; each of them goes video by video."""
    frame = frames_of(prompt, sample)
    rows, here, unseen = {}, torch.arange(len(frame)), None
    for stage in stages:
        kept, first = torch.ones_like(here).bool(), 0
        for clip in prompt.clips[sample]:
            own = (frame[here] >= first) & (frame[here] < first + clip.frames)
            kept &= ~own | thinned(own)
            first += clip.frames
        if isinstance(stage, Hide):
            unseen = (stage.layer, here[~kept])
            continue
        here = here[kept]
        rows[stage.layer if isinstance(stage, Early) else 0] = here
    return Removal(rows, unseen=unseen)
