"""Small random checkpoints as the `llava` package writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from models import llava_onevision
from safetensors.torch import save_file

from tokenprune import checkpoints

WORDS = 512  # rows of the embedding; the tokenizer has 486
IMAGE = 500  # an id that it does not have, as 151646 is in the published ones
TOWER = {  # what `tests/models.py` builds
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "patch_size": 8,
    "image_size": 56,
}
# as in the source of the package: the model's own modules, and whoever calls them
_NAMES = {
    "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
    "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
    "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    "model.language_model.": "model.",
}


GENERATION = {  # as published: sampling, which an evaluation does not do
    "attn_implementation": "flash_attention_2",
    "bos_token_id": 1,
    "do_sample": True,
    "eos_token_id": [2, 1],
    "pad_token_id": 0,
    "repetition_penalty": 1.1,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "transformers_version": "4.40.0.dev0",
}


def model(**changes: Any) -> Any:
    return llava_onevision(words=WORDS, side=TOWER["image_size"], **changes)


def named(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under the names of the `llava` package."""
    found = {}
    for key, value in weights.items():
        ours = next((prefix for prefix in _NAMES if key.startswith(prefix)), "")
        found[_NAMES.get(ours, "") + key.removeprefix(ours)] = value.clone()
    return found


def settings(model: Any, **changes: Any) -> dict[str, Any]:
    """A `config.json`; a value of ... leaves its key out."""
    text = model.config.text_config
    sizes = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "tie_word_embeddings",
    )
    found = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        **{name: getattr(text, name) for name in sizes},
        "rope_theta": text.rope_parameters["rope_theta"],
        "rope_scaling": None,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
        "image_token_index": IMAGE,
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": [[56, 56]],
        "mm_vision_tower": "google/siglip-small",
        "mm_hidden_size": 24,
        "mm_vision_select_layer": -2,
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_newline_position": "one_token",
        "mm_spatial_pool_mode": "bilinear",
        "mm_resampler_type": None,
        "mm_use_im_start_end": False,
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
        "use_pos_skipping": False,
        "tokenizer_model_max_length": 4096,
        **changes,
    }
    return {key: value for key, value in found.items() if value is not ...}


def save(folder: Path, model: Any, *, files: int = 1, **changes: Any) -> Path:
    """A checkpoint in `files` files; `changes` are of its `config.json`."""
    folder.mkdir(parents=True)
    weights = named(model.state_dict())
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    parts = [dict(list(weights.items())[number::files]) for number in range(files)]
    index = {}
    for number, part in enumerate(parts):
        name = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        save_file(part, folder / (name if files > 1 else "model.safetensors"), {"format": "pt"})
        index |= dict.fromkeys(part, name)
    if files > 1:
        written = {"metadata": {}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(written))
    (folder / "config.json").write_text(json.dumps(settings(model, **changes)))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoints.path("tiny") / file, folder)
    return folder
