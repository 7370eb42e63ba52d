"""Checkpoints of the original `llava` package, read in place as the classes of transformers.

`lmms-lab/llava-onevision-qwen2-7b-ov` and its kin: Qwen2 and SigLIP under names of their own, with
the weights of both inside. Only names differ, so four renamings read the files as they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import LlavaOnevisionConfig, PreTrainedConfig, Qwen2Config, SiglipVisionConfig

from tokenprune.errors import LoadingError, UnsupportedModelError
from tokenprune.loading.llava_video import variant_of
from tokenprune.loading.variant import NEWLINES, POOLS, STOCK, Variant

ARCHITECTURE = "LlavaQwenForCausalLM"
# SigLIP by the last part of `mm_vision_tower`, which is a hub id or a folder of whoever trained
# it. One layer less than published: llava takes the last but one, and stores no other.
TOWERS: dict[str, dict[str, Any]] = {
    "siglip-so400m-patch14-384": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 26,
        "patch_size": 14,
        "image_size": 384,
    }
}
# names of tensors, as `from_pretrained(key_mapping=...)` takes them
KEYS = {
    r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
}
COMPUTED = ".inv_freq"  # at the end of names of tensors that old versions stored
IMAGE = 151646  # an id that Qwen2's tokenizer leaves unused; the next one is as free
_LEGACY = ("rope_theta", "rope_scaling")  # of a Qwen2 configuration, renamed since
# what would be another model: the key, what it has to be where it is set, and what it is about
_FIXED = (
    ("mm_projector_type", ("mlp2x_gelu",), "projector"),
    ("mm_resampler_type", (None,), "resampler"),
    ("mm_patch_merge_type", ("spatial_unpad",), "arrangement of patches"),
    ("mm_newline_position", (*NEWLINES, None), "place of newlines"),
    ("mm_spatial_pool_mode", (*POOLS, None), "pooling"),
    ("mm_use_im_start_end", (False, None), "marks around images"),
    ("add_faster_video", (False, None), "second, faster stream of frames"),
    ("use_pos_skipping", (False, None), "skipping of positions"),
)


def is_native(settings: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is one of the `llava` package.

    `model_type` does not tell: it is `llava` in some, which transformers takes for LLaVA-1.5.
    """
    named = settings.get("architectures") or [""]
    return "mm_vision_tower" in settings and str(named[0]).startswith("Llava")


def configuration_of(
    name: str, settings: Mapping[str, Any], variant: Variant = STOCK
) -> PreTrainedConfig:
    """What a class of transformers, or LLaVA-Video's, needs to know about the native `name`.

    `settings` is its `config.json`; what `variant` leaves open is as they say. Raises
    UnsupportedModelError for what that class does not compute, LoadingError for contents that make
    no sense.
    """
    _refuse_others(name, settings)
    image = settings.get("image_token_index", IMAGE)
    try:
        text = _language_model(settings)
        if image + 1 >= text.vocab_size:
            raise ValueError(f"a vocabulary of {text.vocab_size} holds no unused id {image + 1}")
        config = LlavaOnevisionConfig(
            text_config=text,
            vision_config=SiglipVisionConfig(**_tower(name, settings), vision_use_head=False),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            image_token_index=image,
            video_token_index=image + 1,
            image_grid_pinpoints=settings.get("image_grid_pinpoints"),
            vision_aspect_ratio=settings.get("image_aspect_ratio", "anyres_max_9"),
            tie_word_embeddings=text.tie_word_embeddings,
            dtype=settings.get("dtype", settings.get("torch_dtype")),
        )
        return variant_of(
            config,
            pool=variant.pool or settings.get("mm_spatial_pool_mode"),
            pool_stride=settings.get("mm_spatial_pool_stride"),
            newline=variant.newline or settings.get("mm_newline_position"),
            newline_rule=variant.newline_rule,
        )
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise LoadingError(
            f"config.json of {name} does not describe a native LLaVA checkpoint: {reason}"
        ) from None


def _language_model(settings: Mapping[str, Any]) -> Qwen2Config:
    """Qwen2 from fields that lie beside those of the tower."""
    own = {one.name for one in fields(Qwen2Config)} | set(_LEGACY)  # pyright: ignore[reportArgumentType]
    given = {key: value for key, value in settings.items() if key in own}
    # llava cuts a prompt off there: what lies behind is no context that was trained
    if limit := settings.get("tokenizer_model_max_length"):
        given["max_position_embeddings"] = min(given.get("max_position_embeddings", limit), limit)
    return Qwen2Config(**given)


def _tower(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    tower = str(settings["mm_vision_tower"])
    known = TOWERS.get(tower.rstrip("/").rpartition("/")[2])
    if known is None:
        raise UnsupportedModelError(
            f"{name} has the vision tower {tower}: of native LLaVA checkpoints those with "
            f"{', '.join(TOWERS)} are read"
        )
    return known


def _refuse_others(name: str, settings: Mapping[str, Any]) -> None:
    """UnsupportedModelError for what would load and compute something else."""
    architecture = settings["architectures"][0]
    if architecture != ARCHITECTURE:
        raise UnsupportedModelError(
            f"{name} is a native LLaVA checkpoint of {architecture}: only those of "
            f"{ARCHITECTURE} are read"
        )
    _tower(name, settings)
    for key, allowed, meaning in _FIXED:
        if key in settings and settings[key] not in allowed:
            wanted = " or ".join(map(str, filter(None, allowed))) or "none"
            raise UnsupportedModelError(
                f"{name} has {key}={settings[key]}, a {meaning} that native LLaVA checkpoints are "
                f"not read with: only {wanted}"
            )


def frames_of(config: PreTrainedConfig) -> dict[str, Any]:
    """How frames are prepared: no native checkpoint has a file that says so."""
    side, half = config.vision_config.image_size, [0.5, 0.5, 0.5]
    return {"size": {"height": side, "width": side}, "image_mean": half, "image_std": half}
