"""Writes pixels.json: what the video processors of transformers make of small videos.

Needs transformers and torchvision, not tokenprune: python tests/golden/processors/make_pixels.py
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision  # pyright: ignore[reportMissingImports]
import transformers
from torch import Tensor
from transformers.utils import logging

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from footage import footage  # noqa: E402

SMALL = {"shortest_edge": 56 * 56, "longest_edge": 120 * 120}
SMALL_VIDEO = {"shortest_edge": 64 * 64, "longest_edge": 5 * 100 * 100}
# processor, its settings, and videos as frames, height and width
CASES: list[tuple[str, dict[str, Any], list[tuple[int, int, int]]]] = [
    ("LlavaOnevisionVideoProcessor", {"size": {"height": 42, "width": 42}}, [(3, 50, 70)]),
    ("LlavaOnevisionVideoProcessor", {}, [(1, 384, 384), (2, 97, 61)]),
    (
        "InternVLVideoProcessor",
        {
            "size": {"height": 448, "width": 448},
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
        [(2, 120, 90)],
    ),
    ("LlavaNextVideoVideoProcessor", {}, [(2, 90, 160), (1, 300, 230), (3, 224, 224)]),
    (
        "LlavaNextVideoVideoProcessor",
        {"size": {"shortest_edge": 60}, "crop_size": {"height": 47, "width": 58}},
        [(2, 93, 71)],
    ),
    ("VideoLlavaVideoProcessor", {}, [(8, 101, 77)]),
    ("Gemma3ImageProcessor", {"size": {"height": 112, "width": 112}}, [(3, 61, 90)]),
    ("Qwen2VLVideoProcessor", {}, [(2, 360, 640)]),
    ("Qwen2VLVideoProcessor", {"size": SMALL}, [(4, 100, 60), (5, 31, 190), (1, 200, 200)]),
    ("Qwen2VLVideoProcessor", {"min_pixels": 3136, "max_pixels": 12845056}, [(3, 45, 130)]),
    (
        "Qwen2VLVideoProcessor",
        {"size": SMALL, "cap_pixels_per_frame": True, "max_video_tokens": 30},
        [(6, 100, 120)],
    ),
    ("Qwen3VLVideoProcessor", {}, [(3, 90, 130)]),
    ("Qwen3VLVideoProcessor", {"size": SMALL_VIDEO}, [(4, 100, 60), (5, 130, 190), (7, 20, 90)]),
    (
        "Qwen3VLVideoProcessor",
        {"size": SMALL_VIDEO, "cap_pixels_per_frame": True, "max_video_tokens": 6},
        [(6, 100, 120)],
    ),
    ("LlavaOnevisionVideoProcessor", {"do_normalize": False}, [(1, 50, 50)]),
    ("LlavaOnevisionVideoProcessor", {"do_rescale": False, "resample": 2}, [(1, 50, 50)]),
]


def prepared(name: str, settings: dict[str, Any], frames: Tensor) -> tuple[Tensor, Any]:
    """What the model gets of one video, and its grid where there is one."""
    processor = getattr(transformers, name)(**settings)
    channels_first = frames.permute(0, 3, 1, 2)
    if "ImageProcessor" in name:
        return processor([list(channels_first)], return_tensors="pt")["pixel_values"], None
    made = processor([channels_first], do_sample_frames=False, return_tensors="pt")
    values = made["pixel_values_videos"]
    if "video_grid_thw" in made:
        return values, made["video_grid_thw"][0].tolist()
    return values[0], None


def record(name: str, settings: dict[str, Any], shape: tuple[int, int, int]) -> dict[str, Any]:
    values, grid = prepared(name, settings, footage(*shape))
    assert values.dtype == torch.float32
    flat = values.contiguous().flatten()
    return {
        "processor": name,
        "settings": settings,
        "video": shape,
        "shape": list(values.shape),
        "grid": grid,
        "values": flat[:: max(1, len(flat) // 12)].tolist(),
        "sha256": hashlib.sha256(flat.numpy().tobytes()).hexdigest(),
    }


if __name__ == "__main__":
    logging.set_verbosity_error()
    cases = [record(name, settings, shape) for name, settings, shapes in CASES for shape in shapes]
    by = {"transformers": transformers.__version__, "torchvision": torchvision.__version__}
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"made by": {json.dumps(by)},\n"cases": [\n{lines}\n]}}\n'
    (HERE / "pixels.json").write_text(text, encoding="utf-8")
