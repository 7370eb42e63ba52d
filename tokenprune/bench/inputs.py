"""What is measured on: a clip, its pixels or made-up features, and prompts around visual rows."""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.adapters import VideoLLM
from tokenprune.adapters.preparation import Preparation, Shown
from tokenprune.bench.clip import MADE_UP, decoded, timed
from tokenprune.bench.config import DYNAMIC, RANDOM, BenchConfig
from tokenprune.bench.encoded import Encoded
from tokenprune.bench.prompts import left_padded, rows_of
from tokenprune.bench.towers import Grid
from tokenprune.tokens import TEXT, Video


@dataclass
class Inputs:
    """One video, asked about in each sample of a batch.

    All times in milliseconds, one per repeat.
    """

    adapter: VideoLLM
    preparation: Preparation
    frames: int  # of the clip
    video: Video  # at the LLM's input
    rows: list[bool]  # those of the video in a prompt: True where a placeholder stands
    texts: list[int]  # text tokens of each sample
    seed: int
    # bytes of an assistant's weights, which lie on an accelerator while others are measured, too
    idle: int = 0
    media: dict[str, Tensor] = field(default_factory=dict)  # what brings it; empty if made up
    features: Encoded | None = None  # None where the tower makes them
    video_ms: list[float] = field(default_factory=list)
    preprocess_ms: list[float] = field(default_factory=list)
    # by their number of visual rows, made so far: not while a clock runs
    made: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def text(self) -> int | float:
        """Text tokens of a sample, mean over the batch."""
        return statistics.mean(self.texts)

    @property
    def cache(self) -> str:
        """Of `generate`: dynamic or static."""
        return self.adapter.model.generation_config.cache_implementation or DYNAMIC

    @property
    def full(self) -> int:
        """Visual rows of one prompt without compression."""
        return self.video.tokens

    @property
    def beside(self) -> int:
        """Rows of a video that are not visual: newlines, marks and timestamps."""
        return len(self.rows) - self.full

    @property
    def grid(self) -> Grid | None:
        """Patches of a frame, where the tower has no size of its own."""
        sizes = self.media.get("video_grid_thw")
        return None if sizes is None else Grid(*sizes[0, 1:].tolist())

    def prompts(self, visual: int) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` of prompts with `visual` visual rows and separators."""
        if visual not in self.made:
            self.made[visual] = self._prompts(visual)
        return dict(self.made[visual])

    def _prompts(self, visual: int) -> dict[str, Int[Tensor, "b s"]]:
        placeholder, rows = self.adapter.video_token_id, self.rows
        if visual < self.full:  # which of them are left does not matter to time and memory
            marks, others = rows.count(False), rows.count(True) - self.full
            rows = [False] * marks + [True] * (visual + others)
        pad: int = self.adapter.model.generation_config.pad_token_id  # pyright: ignore
        ids, mask = left_padded(self.texts, self._words(), rows, placeholder, pad)
        made = {"input_ids": ids, "attention_mask": mask}
        if self.preparation.types is not None:
            name, kind = self.preparation.types
            # M-RoPE looks for the video's grid behind these, and fewer rows have none: they count
            # as text does, which costs the same
            if visual == self.full or not self.preparation.sized:
                made[name] = kind * (ids == placeholder).long()
        return {name: part.to(self.adapter.device) for name, part in made.items()}

    def _words(self) -> list[int]:
        """Random words, none of which stands for an image or a video."""
        config, length = self.adapter.model.config, max(self.texts)
        reserved = {self.adapter.video_token_id, config.image_token_id}
        generator = torch.Generator().manual_seed(self.seed)
        vocabulary = config.get_text_config().vocab_size
        drawn = torch.randint(vocabulary, (length + 64,), generator=generator).tolist()
        return [token for token in drawn if token not in reserved][:length]

    def arguments(self) -> dict[str, Any]:
        """What `generate` takes for whole prompts; made anew for each call, which changes it."""
        prompts = self.prompts(self.full)
        if self.features is not None:
            return {**prompts, **self.features.arguments(self.adapter)}
        return {**prompts, **self.media}

    def some(self, visual: int) -> Int[Tensor, "m"]:
        """`visual` evenly spaced rows of a video's features, with all that are no cells."""
        pattern = self.adapter.pattern(self.video)
        places = np.flatnonzero(pattern != TEXT)
        kept = places[np.arange(visual) * self.full // max(1, visual)]
        rows = np.sort(np.append(kept, np.flatnonzero(pattern == TEXT)))
        return torch.from_numpy(rows).to(self.adapter.device)

    @torch.no_grad()
    def encode(self) -> Encoded:
        """Features of the whole video, made by the tower unless they are made up."""
        if self.features is not None:
            return self.features
        encoder = getattr(self.adapter.body, f"get_{self.adapter.modality}_features")
        taken = inspect.signature(encoder).parameters
        media = {name: part for name, part in self.media.items() if name in taken}
        return Encoded.of(encoder(**media, return_dict=True), len(self.texts))

    def tensors(self) -> list[Tensor]:
        made = [] if self.features is None else self.features.tensors
        return [*self.media.values(), *made]


def prepare(
    config: BenchConfig, adapter: VideoLLM, preparation: Preparation | None, idle: int = 0
) -> Inputs:
    """A clip that is decoded and prepared `repeats` times, or made-up features.

    `preparation` None: as the family takes videos where no checkpoint says so. Raises VideoError.
    """
    preparation = preparation or type(adapter).preparation(adapter.model.config, {})
    if config.vision == RANDOM:
        video = preparation.video(config.frames, *MADE_UP)
        found = _inputs(config, adapter, preparation, config.frames, video, [0.0] * video.frames)
        found.idle, found.features = idle, _made_up(config, adapter, video)
        return found
    frames, video_ms = decoded(config)
    shown, preprocess_ms = timed(lambda: preparation.prepared(frames), config.repeats)
    # a short video has fewer frames than were asked for
    moments = preparation.moments(shown.times)
    found = _inputs(config, adapter, preparation, len(frames), shown.video, moments)
    found.idle, found.video_ms, found.preprocess_ms = idle, video_ms, preprocess_ms
    found.media = _media(preparation, shown, config.batch, adapter)
    return found


def _inputs(
    config: BenchConfig,
    adapter: VideoLLM,
    preparation: Preparation,
    frames: int,
    video: Video,
    moments: Sequence[float],
) -> Inputs:
    # the shortest prompt of a ragged batch comes last
    steps = max(1, config.batch - 1)
    texts = [config.text - place * config.ragged // steps for place in range(config.batch)]
    rows = rows_of(preparation.written(video, moments))
    return Inputs(adapter, preparation, frames, video, rows, texts, config.seed)


def _media(
    preparation: Preparation, shown: Shown, batch: int, adapter: VideoLLM
) -> dict[str, Tensor]:
    """What brings the video to each sample of a batch."""
    dtype, made = adapter.model.dtype, preparation.tensors([shown] * batch)
    pixels = {name: part.to(dtype) for name, part in made.items() if name.startswith("pixel")}
    return {name: part.to(adapter.device) for name, part in {**made, **pixels}.items()}


def _made_up(config: BenchConfig, adapter: VideoLLM, video: Video) -> Encoded:
    """Features of all cells and separators, the same for all samples."""
    rows = len(adapter.pattern(video))
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.randn(rows, adapter.text_config.hidden_size, generator=generator)
    features = (drawn * 0.02).to(adapter.device, adapter.model.dtype)  # a fresh embedding's spread
    return Encoded(features.expand(config.batch, -1, -1).contiguous())
