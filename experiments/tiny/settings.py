"""The settings beside a trained model's weights: what `AutoProcessor` reads, of videos and images.

python -m experiments.tiny.settings tokenprune/checkpoints/tiny
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MEAN, STD = 0.5, 0.5
_PROCESSOR = "LlavaOnevisionProcessor"


def settings(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By file, from a model's `config.json`."""
    vision = config["vision_config"]
    side: int = vision["image_size"]
    frame = {
        "size": {"height": side, "width": side},
        "do_resize": True,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
        "do_convert_rgb": True,
    }
    return {
        "video_preprocessor_config.json": {
            "video_processor_type": "LlavaOnevisionVideoProcessor",
            **frame,
        },
        "preprocessor_config.json": {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": _PROCESSOR,
            "image_grid_pinpoints": config["image_grid_pinpoints"],
            "do_pad": True,
            **frame,
        },
        "processor_config.json": {
            "processor_class": _PROCESSOR,
            "image_token": "<image>",
            "video_token": "<video>",
            # of one frame before pooling, as the processor wants it
            "num_image_tokens": (side // vision["patch_size"]) ** 2,
            "vision_aspect_ratio": config["vision_aspect_ratio"],
            "vision_feature_select_strategy": config["vision_feature_select_strategy"],
        },
    }


def write(folder: Path) -> None:
    """Beside the `config.json` in `folder`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, content in settings(config).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for given in sys.argv[1:]:
        write(Path(given))
