"""Ids and tensors of prompts are those of transformers' own processors (golden/processors)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import FOLDERS
from footage import footage

from tokenprune.adapters import families
from tokenprune.errors import PromptError
from tokenprune.loading.processor import Medium, Processor

FILE = Path(__file__).parent / "golden" / "processors" / "ids.json"
GOLDEN = json.loads(FILE.read_text())["cases"]
FPS = 25.0


def named(case: dict[str, Any]) -> str:
    videos = sum(len(sample["videos"]) for sample in case["samples"])
    pictures = sum(len(sample.get("pictures", [])) for sample in case["samples"])
    return f"{case['family']}-{videos}-{pictures}"


def media(sample: dict[str, Any]) -> list[Any]:
    """Its images, and its videos, whose frames are `apart` pictures of a file from one another."""
    videos = [
        Medium(footage(*shape), [number * apart / FPS for number in range(shape[0])])
        for shape, apart in zip(sample["videos"], sample["apart"], strict=True)
    ]
    return [*(footage(1, *size)[0] for size in sample.get("pictures", [])), *videos]


@pytest.mark.parametrize("case", GOLDEN, ids=named)
def test_prompts_are_transformers_own(case: dict[str, Any], tmp_path: Path) -> None:
    kind = case["family"]
    processor = Processor.load(FOLDERS[kind].write(kind, tmp_path))
    asked = [(media(sample), sample["question"]) for sample in case["samples"]]
    made = processor.encode(asked)
    assert set(made) == set(case) - {"family", "samples"}
    for name, value in made.items():
        if name.startswith("pixel_values"):
            assert list(value.shape) == case[name]["shape"]
            digest = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
            assert digest == case[name]["sha256"]
        else:
            assert torch.equal(value, torch.tensor(case[name])), name


def test_videos_need_no_settings_of_images(tmp_path: Path) -> None:
    home = FOLDERS["qwen3_vl"].write("qwen3_vl", tmp_path)
    (home / "preprocessor_config.json").rename(home / "video_preprocessor_config.json")
    processor = Processor.load(home)
    assert "pixel_values_videos" in processor.encode([(footage(2, 64, 64), "What?")])
    with pytest.raises(PromptError, match="videos only: leave out images"):
        processor.encode([([footage(2, 64, 64), footage(1, 64, 64)[0]], "What?")])


def test_every_family_is_recorded() -> None:
    aliases = {"qwen3_vl_moe": "qwen3_vl", "llava_video": "llava_onevision"}
    recorded = {case["family"] for case in GOLDEN}
    assert {aliases.get(kind, kind) for kind in families()} <= recorded
