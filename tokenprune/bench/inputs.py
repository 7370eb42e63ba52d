"""What is measured on: a clip, its pixels or made-up features, and a prompt around as many visual
rows as wanted.
"""

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
from tokenprune.loading.processor import Pixels
from tokenprune.loading.video import read_frames
from tokenprune.tasks.export import write_video

_CLIP = (360, 640)  # height and width of the clip that is made up
# its frames for each one asked for: most frames of a real video are decoded and left out
_DENSITY = 8
_BEFORE = 14  # text tokens before the video, as in LLaVA-OneVision's prompt with a system message


@dataclass
class Material:
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
    idle: int = 0
    # made so far: not while a clock runs
    prompts: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def text(self) -> int | float:
        """Text tokens of a sample, mean over the batch."""
        return statistics.mean(self.texts)

    @property
    def full(self) -> int:
        """Visual rows of one prompt without compression."""
        return self.frames * self.adapter.cells

    def words(self, visual: int) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` of prompts with `visual` visual rows and the separators
        behind them.
        """
        if visual not in self.prompts:
            self.prompts[visual] = self._prompts(visual)
        return dict(self.prompts[visual])

    def _prompts(self, visual: int) -> dict[str, Int[Tensor, "b s"]]:
        model, longest = self.adapter.model, max(self.texts)
        markers = {self.adapter.video_token_id, model.config.image_token_id}
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randint(
            model.config.get_text_config().vocab_size, (longest + 64,), generator=generator
        ).tolist()
        text = [token for token in drawn if token not in markers][:longest]
        before = min(_BEFORE, min(self.texts) // 2)
        video = [self.adapter.video_token_id] * (visual + self.adapter.separators)
        ids, mask = [], []
        for length in self.texts:  # padded on the left, as `generate` wants it
            pad, row = longest - length, text[:before] + video + text[before:length]
            ids.append([model.generation_config.pad_token_id] * pad + row)
            mask.append([0] * pad + [1] * len(row))
        made = {"input_ids": ids, "attention_mask": mask}
        return {name: torch.tensor(rows, device=self.adapter.device) for name, rows in made.items()}

    def inputs(self) -> dict[str, Any]:
        """What `generate` takes for the whole prompt; made anew for each call, which changes it."""
        if self.features is not None:
            return {**self.words(self.full), **encoded(self.features)}
        return {**self.words(self.full), "pixel_values_videos": self.pixels}

    @torch.no_grad()
    def encode(self) -> Float[Tensor, "b n d"]:
        """Features of the whole video, made by the tower unless they are made up."""
        if self.features is not None:
            return self.features
        body: Any = self.adapter.body
        return body.get_video_features(self.pixels, return_dict=True).pooler_output

    def tensors(self) -> list[Tensor]:
        return [part for part in (self.pixels, self.features) if part is not None]


def prepare(config: BenchConfig, adapter: VideoLLM, pixels: Pixels | None) -> Material:
    """Decodes and prepares the clip `repeats` times, or makes features up. `pixels` None: as the
    tower sees frames.

    Raises VideoError.
    """
    made: dict[str, Any] = {"pixels": None, "features": None, "video_ms": [], "preprocess_ms": []}
    frames, (device, dtype) = config.frames, (adapter.device, adapter.model.dtype)
    if config.vision == RANDOM:
        width = adapter.text_config.hidden_size
        rows = frames * adapter.cells + adapter.separators
        generator = torch.Generator().manual_seed(config.seed)
        drawn = torch.randn(rows, width, generator=generator) * 0.02  # a fresh embedding's spread
        made["features"] = drawn.to(device, dtype).expand(config.batch, -1, -1).contiguous()
    else:
        side = adapter.model.config.vision_config.image_size
        pixels = pixels or Pixels(height=side, width=side)
        with tempfile.TemporaryDirectory() as folder:
            file = (
                Path(config.video).expanduser()
                if config.video
                else _clip(Path(folder), frames, config.seed)
            )
            shown, made["video_ms"] = _timed(lambda: read_frames(file, frames), config)
        ready, made["preprocess_ms"] = _timed(lambda: pixels(shown), config)
        frames = len(shown)  # a short video has fewer
        made["pixels"] = ready.to(device, dtype).expand(config.batch, -1, -1, -1, -1).contiguous()
    texts = [
        config.text - number * config.ragged // max(1, config.batch - 1)
        for number in range(config.batch)
    ]
    return Material(adapter, frames, texts, config.seed, **made)


def _timed(what: Callable[[], Tensor], config: BenchConfig) -> tuple[Tensor, list[float]]:
    """The result, and the milliseconds of each measured repeat; the work is the CPU's."""
    result, took = what(), list[float]()  # warm-up
    for _ in range(config.repeats):
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


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
