"""Pixels are those of transformers' own video processors, bit for bit (golden/processors)."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from footage import footage

from tokenprune.errors import LoadingError, PromptError
from tokenprune.pixels import HALF, Cropped, Patches, Pixels

FILE = Path(__file__).parent / "golden" / "processors" / "pixels.json"
GOLDEN = json.loads(FILE.read_text())["cases"]
QWEN3: dict[str, Any] = {"whole": True, "side": 16, "mean": HALF, "std": HALF}
KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "LlavaOnevisionVideoProcessor": Pixels.of,
    "InternVLVideoProcessor": Pixels.of,
    "LlavaNextVideoVideoProcessor": Cropped.of,
    "VideoLlavaVideoProcessor": Cropped.of,
    "Gemma3ImageProcessor": lambda given: Pixels.of(given, 224, HALF, HALF, resample=2),
    "Qwen2VLVideoProcessor": Patches.of,
    "Qwen3VLVideoProcessor": lambda given: Patches.of(given, **QWEN3),
}


def named(case: dict[str, Any]) -> str:
    return f"{case['processor'].removesuffix('Processor')}-{'x'.join(map(str, case['video']))}"


@pytest.mark.parametrize("case", GOLDEN, ids=named)
def test_pixels_are_transformers_own(case: dict[str, Any]) -> None:
    kind, shape = KINDS[case["processor"]](case["settings"]), case["video"]
    ours = kind(footage(*shape))
    assert list(ours.shape) == case["shape"]
    flat = ours.contiguous().flatten()
    assert flat[:: max(1, len(flat) // 12)].tolist() == case["values"]
    assert hashlib.sha256(flat.numpy().tobytes()).hexdigest() == case["sha256"]
    if case["grid"] is not None:
        assert list(kind.grid(*shape)) == case["grid"]
    else:
        assert list(kind.size(*shape)) == case["shape"][-2:]


def test_every_kind_was_recorded() -> None:
    assert {case["processor"] for case in GOLDEN} == set(KINDS)


def test_a_kind_goes_to_other_processes() -> None:
    for kind in (Pixels.of({}), Cropped.of({}), Patches.of({})):
        assert pickle.loads(pickle.dumps(kind)) == kind


def test_a_single_frame_is_seen_twice() -> None:
    """transformers' Qwen3-VL processor refuses it; here it is the video of two equal frames."""
    patches, frame = Patches.of({}, **QWEN3), footage(1, 80, 50)
    assert torch.equal(patches(frame), patches(frame.repeat(2, 1, 1, 1)))


def test_narrow_strips_are_refused() -> None:
    with pytest.raises(PromptError, match="8x2000 pixels are more than 200 times"):
        Patches.of({}).size(2, 8, 2000)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (Cropped.of, {"size": {"height": 3, "width": 3}}, "only the shortest edge"),
        (Cropped.of, {"do_center_crop": False}, "do_center_crop=False"),
        (Cropped.of, {"crop_size": {"height": 9, "width": 300}}, "the centre of 9x300"),
        (Patches.of, {"size": {"height": 3, "width": 3}}, "only a budget of pixels"),
        (Patches.of, {"do_resize": False}, "do_resize=False"),
    ],
)
def test_settings_that_are_not_reproduced(
    kind: Callable[[dict[str, Any]], Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(LoadingError, match=said):
        kind(settings)
