"""`configuration`: a name to what the model is, before any weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, LlavaOnevisionConfig, PreTrainedConfig

from tokenprune.adapters import families
from tokenprune.errors import LoadingError, UnsupportedModelError
from tokenprune.loading import native
from tokenprune.loading.hub import folder
from tokenprune.loading.llava_video import variant_of
from tokenprune.loading.variant import STOCK, Variant
from tokenprune.lookup import FAMILIES


def configuration(name: str, variant: Variant = STOCK) -> PreTrainedConfig:
    """The configuration of the model `name`, without its weights.

    Raises LoadingError where there is none or where it has no such variant, UnsupportedModelError
    where it is of no supported family.
    """
    home = folder(name, weights=False)
    settings = contents(home, name)
    if native.is_native(settings):
        return native.configuration_of(name, settings, variant)
    kind = settings.get("model_type")
    if kind not in families():
        FAMILIES.refuse_broken(str(kind))
        raise UnsupportedModelError(
            f"{name} is of the family {kind!r}: supported families are "
            f"{', '.join(sorted(families()))}"
        )
    try:
        config = AutoConfig.from_pretrained(home, trust_remote_code=False)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise LoadingError(f"config.json of {name} does not describe a {kind}: {reason}") from None
    return varied(name, config, variant)


def varied(name: str, config: PreTrainedConfig, variant: Variant) -> PreTrainedConfig:
    """The configuration of `name` with other pooling or newlines, where `variant` asks for them.

    Raises LoadingError where it has none.
    """
    chosen = {
        "pool": variant.pool,
        "newline": variant.newline,
        "newline_rule": variant.newline_rule,
    }
    if not any(chosen.values()):
        return config
    if not isinstance(config, LlavaOnevisionConfig):
        raise LoadingError(
            "pool=, newline= and newline_rule= are choices of LLaVA-Video and LLaVA-OneVision, and "
            f"{name} is a {config.model_type}: leave them out"
        )
    return variant_of(config, **chosen)


def contents(home: Path, name: str) -> dict[str, Any]:
    """The `config.json` of the model `name` in the folder `home`. Raises LoadingError."""
    try:
        found = json.loads((home / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadingError(f"config.json of {name} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise LoadingError(f"config.json of {name} cannot be read: it is no mapping")
    return found


def frame_settings(home: Path, kind: str = "video_processor") -> dict[str, Any]:
    """How the model in the folder `home` prepares frames: the first of the files that transformers'
    processors of this kind (`image_processor`) read, in its order.

    Raises LoadingError.
    """
    if (nested := home / "processor_config.json").is_file() and kind in (
        settings := json_in(nested)
    ):
        return settings[kind]
    files = ["preprocessor_config.json"]
    if kind == "video_processor":
        files = ["video_preprocessor_config.json", *files]
    for file in files:
        if (home / file).is_file():
            return json_in(home / file)
    raise LoadingError(f"{home.name} holds no {files[0]}, which says how frames are prepared")


def json_in(file: Path) -> dict[str, Any]:
    """Raises LoadingError."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadingError(
            f"{file.name} of {file.parent.name} is not valid JSON: {error}"
        ) from None
