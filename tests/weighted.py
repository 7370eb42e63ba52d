"""Small random models of every family as checkpoints on disk: all that a folder of the hub has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES
from folders import FOLDERS
from transformers import AutoModelForImageTextToText, AutoTokenizer

WORDS = 300  # in the vocabulary: the letters and the marks of `folders.spelled`
KIN = {"qwen3_vl_moe": "qwen3_vl", "llava_video": "llava_onevision"}  # with one processor


def saved(kind: str, home: Path) -> Path:
    """The model of a family, in `home`."""
    folder, config = FOLDERS[KIN.get(kind, kind)], FAMILIES[kind].build().config
    folder.write(KIN.get(kind, kind), home)
    tokenizer = AutoTokenizer.from_pretrained(home)
    config.text_config.vocab_size = WORDS
    for name, text in folder.tokens.items():
        setattr(config, name, tokenizer.convert_tokens_to_ids(text))
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(home)
    settings = folder.settings | fitted(config.vision_config, folder.settings)
    (home / "preprocessor_config.json").write_text(json.dumps(settings))
    return home


def fitted(vision: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What prepares frames for the small tower."""
    if hasattr(vision, "spatial_merge_size"):
        budget = {"min_pixels": 16 * 64, "max_pixels": 96 * 64}
        return {"patch_size": vision.patch_size, "size": None, **budget}
    side = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
    square = {"height": side, "width": side}
    if "crop_size" in settings:
        return {"size": {"shortest_edge": side}, "crop_size": square}
    return {"size": square}
