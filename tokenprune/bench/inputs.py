"""What is measured on: a clip, its pixels or made-up features, and prompts around visual rows."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenprune.adapters import VideoLLM
from tokenprune.bench.config import RANDOM, BenchConfig
from tokenprune.compat import encoded
from tokenprune.loading.video import read_frames
from tokenprune.pixels import Kind, Pixels
from tokenprune.tasks.export import write_video

_CLIP = (360, 640)  # height and width of the clip that is made up
# its frames for each one asked for: most frames of a real video are decoded and left out
_DENSITY = 8
_BEFORE = 14  # text tokens before the video, as in LLaVA-OneVision's prompt with a system message


@dataclass
class Inputs:
    """One video, asked about in each sample of a batch.

    All times in milliseconds, one per repeat.
    """

    adapter: VideoLLM
    frames: int
    texts: list[int]  # text tokens of each sample
    seed: int
    pixels: Float[Tensor, "b f 3 h w"] | None  # None with made-up features
    # of all cells and separators; None where the tower makes them
    features: Float[Tensor, "b n d"] | None
    video_ms: list[float]
    preprocess_ms: list[float]
    # bytes of an assistant's weights, which lie on an accelerator while others are measured, too
    idle: int
    # by their number of visual rows, made so far: not while a clock runs
    made: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def text(self) -> int | float:
        """Text tokens of a sample, mean over the batch."""
        return statistics.mean(self.texts)

    @property
    def full(self) -> int:
        """Visual rows of one prompt without compression."""
        return self.frames * self.adapter.cells

    def prompts(self, visual: int) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` of prompts with `visual` visual rows and separators."""
        if visual not in self.made:
            self.made[visual] = self._prompts(visual)
        return dict(self.made[visual])

    def _prompts(self, visual: int) -> dict[str, Int[Tensor, "b s"]]:
        pad = self.adapter.model.generation_config.pad_token_id
        text = self._text(max(self.texts))
        video = [self.adapter.video_token_id] * (visual + self.adapter.separators)
        before = min(_BEFORE, min(self.texts) // 2)
        ids, mask = [], []
        for length in self.texts:  # padded on the left, as `generate` wants it
            missing = max(self.texts) - length
            row = text[:before] + video + text[before:length]
            ids.append([pad] * missing + row)
            mask.append([0] * missing + [1] * len(row))
        made = {"input_ids": ids, "attention_mask": mask}
        return {name: torch.tensor(rows, device=self.adapter.device) for name, rows in made.items()}

    def _text(self, length: int) -> list[int]:
        """Random words, none of which stands for an image or a video."""
        config = self.adapter.model.config
        reserved = {self.adapter.video_token_id, config.image_token_id}
        generator = torch.Generator().manual_seed(self.seed)
        vocabulary = config.get_text_config().vocab_size
        drawn = torch.randint(vocabulary, (length + 64,), generator=generator).tolist()
        return [token for token in drawn if token not in reserved][:length]

    def arguments(self) -> dict[str, Any]:
        """What `generate` takes for whole prompts; made anew for each call, which changes it."""
        prompts = self.prompts(self.full)
        if self.features is not None:
            return {**prompts, **encoded(self.features)}
        return {**prompts, "pixel_values_videos": self.pixels}

    @torch.no_grad()
    def encode(self) -> Float[Tensor, "b n d"]:
        """Features of the whole video, made by the tower unless they are made up."""
        if self.features is not None:
            return self.features
        body: Any = self.adapter.body
        return body.get_video_features(self.pixels, return_dict=True).pooler_output

    def tensors(self) -> list[Tensor]:
        return [part for part in (self.pixels, self.features) if part is not None]


def prepare(config: BenchConfig, adapter: VideoLLM, pixels: Kind | None, idle: int = 0) -> Inputs:
    """A clip that is decoded and prepared `repeats` times, or made-up features.

    `pixels` None: as the tower sees frames. Raises VideoError.
    """
    # the shortest prompt of a ragged batch comes last
    steps = max(1, config.batch - 1)
    texts = [config.text - place * config.ragged // steps for place in range(config.batch)]
    if config.vision == RANDOM:
        features = _made_up(config, adapter)
        return Inputs(adapter, config.frames, texts, config.seed, None, features, [], [], idle)
    side = adapter.model.config.vision_config.image_size
    pixels = pixels or Pixels(height=side, width=side)
    shown, video_ms = _decoded(config)
    ready, preprocess_ms = _timed(lambda: pixels(shown), config.repeats)
    ready = ready.to(adapter.device, adapter.model.dtype)
    batch = ready.expand(config.batch, -1, -1, -1, -1).contiguous()
    # a short video has fewer frames than were asked for
    return Inputs(
        adapter, len(shown), texts, config.seed, batch, None, video_ms, preprocess_ms, idle
    )


def _made_up(config: BenchConfig, adapter: VideoLLM) -> Float[Tensor, "b n d"]:
    """Features of all cells and separators, the same for all samples."""
    rows = config.frames * adapter.cells + adapter.separators
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.randn(rows, adapter.text_config.hidden_size, generator=generator)
    features = (drawn * 0.02).to(adapter.device, adapter.model.dtype)  # a fresh embedding's spread
    return features.expand(config.batch, -1, -1).contiguous()


def _decoded(config: BenchConfig) -> tuple[Tensor, list[float]]:
    """The frames of the clip, and the milliseconds of decoding it."""
    with tempfile.TemporaryDirectory() as folder:
        if config.video:
            file = Path(config.video).expanduser()
        else:
            file = _clip(Path(folder), config.frames, config.seed)
        return _timed(lambda: read_frames(file, config.frames), config.repeats)


def _timed(what: Callable[[], Tensor], repeats: int) -> tuple[Tensor, list[float]]:
    """The result, and the milliseconds of each measured repeat; the work is the CPU's."""
    result, took = what(), list[float]()  # warm-up
    for _ in range(repeats):
        since = time.perf_counter()
        result = what()
        took.append(1e3 * (time.perf_counter() - since))
    return result, took


def _clip(folder: Path, frames: int, seed: int) -> Path:
    """A bright square that crosses a noisy background, as H.264."""
    height, width = _CLIP
    generator = torch.Generator().manual_seed(seed)
    ground = torch.randint(
        96, 160, (height // 8, width // 8, 3), generator=generator, dtype=torch.uint8
    )
    ground = ground.repeat_interleave(8, 0).repeat_interleave(8, 1)
    count = _DENSITY * frames
    shown: UInt8[Tensor, "f h w 3"] = ground.expand(count, -1, -1, -1).clone()
    for number in range(count):
        left = number * (width - 80) // max(1, count - 1)
        shown[number, 140:220, left : left + 80] = 250
    write_video(folder / "clip.mp4", shown)
    return folder / "clip.mp4"
