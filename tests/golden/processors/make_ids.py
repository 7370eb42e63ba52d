"""Writes ids.json: what transformers' processors make of prompts with small videos.

Needs transformers and torchvision, not tokenprune: python tests/golden/processors/make_ids.py
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torchvision  # pyright: ignore[reportMissingImports]
import transformers
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging
from transformers.video_utils import VideoMetadata

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from folders import FOLDERS  # noqa: E402
from footage import footage  # noqa: E402

# by family: the processor, those of videos and of images, and what the checkpoint says besides
PROCESSORS: dict[str, tuple[str, str | None, str | None, dict[str, Any]]] = {
    "llava_onevision": (
        "LlavaOnevisionProcessor",
        "LlavaOnevisionVideoProcessor",
        "LlavaOnevisionImageProcessor",
        {"num_image_tokens": 16},
    ),
    "llava_next_video": (
        "LlavaNextVideoProcessor",
        "LlavaNextVideoVideoProcessor",
        "LlavaNextImageProcessor",
        {"patch_size": 14, "vision_feature_select_strategy": "default"},
    ),
    "video_llava": (
        "VideoLlavaProcessor",
        "VideoLlavaVideoProcessor",
        "VideoLlavaImageProcessor",
        {"patch_size": 14},
    ),
    "qwen2_vl": ("Qwen2VLProcessor", "Qwen2VLVideoProcessor", "Qwen2VLImageProcessor", {}),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor", "Qwen2VLImageProcessor", {}),
    "qwen3_vl": ("Qwen3VLProcessor", "Qwen3VLVideoProcessor", "Qwen2VLImageProcessor", {}),
    "internvl": (
        "InternVLProcessor",
        "InternVLVideoProcessor",
        "GotOcr2ImageProcessor",
        {"image_seq_length": 4},
    ),
    "gemma3": ("Gemma3Processor", None, "Gemma3ImageProcessor", {"image_seq_length": 4}),
}
RAGGED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3")  # the real InternVL stacks its videos
SAMPLES = [
    {"videos": [[4, 60, 90]], "apart": [3], "question": "What is it?"},
    {"videos": [[4, 60, 90]], "apart": [25], "question": "And which of the two came first?"},
]
UNEQUAL = [
    {"videos": [[5, 70, 110]], "apart": [12], "question": "What is it?\n\nSay it in a word."},
    {"videos": [[2, 90, 40], [3, 64, 64]], "apart": [30, 7], "question": "Which?"},
]
# a picture [h w] before a video, in families that take both
MIXED = [
    {"pictures": [[50, 80]], "videos": [[4, 60, 90]], "apart": [5], "question": "Is it there?"},
    {"pictures": [], "videos": [[3, 64, 40]], "apart": [5], "question": "Or not?"},
]
MIXING = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FPS = 25.0


def processor_of(kind: str, home: Path) -> Any:
    name, video, image, given = PROCESSORS[kind]
    parts = {"tokenizer": AutoTokenizer.from_pretrained(home, padding_side="left")}
    settings = FOLDERS[kind].settings
    if video is not None:
        parts["video_processor"] = getattr(transformers, video)(**settings)
    if image is not None:
        own = settings if video is None or kind in MIXING else {}
        parts["image_processor"] = getattr(transformers, image)(**own)
    template = (home / "chat_template.jinja").read_text(encoding="utf-8")
    return getattr(transformers, name)(**parts, **given, chat_template=template)


def inputs(kind: str, samples: list[dict[str, Any]], home: Path) -> dict[str, Tensor]:
    """A prompt for each sample, all in one call."""
    processor = processor_of(kind, home)
    images = PROCESSORS[kind][1] is None
    texts, videos, metadata, frames, pictures = [], [], [], [], []
    for sample in samples:
        shown = [footage(*shape).permute(0, 3, 1, 2) for shape in sample["videos"]]
        stills = [footage(1, *size)[0].permute(2, 0, 1) for size in sample.get("pictures", [])]
        count = sum(map(len, shown)) if images else len(shown)
        entries = [{"type": "image" if images else "video"}] * count
        before = [{"type": "image"}] * len(stills)
        content = [*before, *entries, {"type": "text", "text": sample["question"]}]
        turn = [{"role": "user", "content": content}]
        texts.append(processor.apply_chat_template(turn, add_generation_prompt=True))
        videos += shown
        pictures += stills
        frames.append([frame for video in shown for frame in video])
        for video, step in zip(shown, sample["apart"], strict=True):
            number = len(video)
            indices = [place * step for place in range(number)]
            metadata.append(
                VideoMetadata(total_num_frames=number * step, fps=FPS, frames_indices=indices)
            )
    common = {"text": texts, "padding": True, "return_tensors": "pt"}
    begun = texts[0].startswith("<bos>")  # as apply_chat_template(tokenize=True) has it
    common["add_special_tokens"] = not begun
    if images:
        return processor(images=frames, **common)
    if pictures:
        common["images"] = pictures
    return processor(videos=videos, video_metadata=metadata, do_sample_frames=False, **common)


def record(kind: str, samples: list[dict[str, Any]], home: Path) -> dict[str, Any]:
    made = inputs(kind, samples, home)
    found: dict[str, Any] = {"family": kind, "samples": samples}
    for name, value in made.items():
        if not isinstance(value, Tensor):
            continue
        if name.startswith("pixel_values"):
            digest = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
            found[name] = {"shape": list(value.shape), "sha256": digest}
        else:
            found[name] = value.tolist()
    return found


if __name__ == "__main__":
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, folder in FOLDERS.items():
            home = folder.write(kind, Path(scratch) / kind)
            cases.append(record(kind, SAMPLES, home))
            if kind in RAGGED:
                cases.append(record(kind, UNEQUAL, home))
            if kind in MIXING:
                cases.append(record(kind, MIXED, home))
    by = {"transformers": transformers.__version__, "torchvision": torchvision.__version__}
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"made by": {json.dumps(by)},\n"cases": [\n{lines}\n]}}\n'
    (HERE / "ids.json").write_text(text, encoding="utf-8")
