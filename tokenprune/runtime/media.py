"""What a prompt brings besides text, seen before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.base import context_of
from tokenprune.errors import LayoutError
from tokenprune.runtime.attention import flat_mask

IMAGES = (
    "images are not compressed: a prompt without a video passes through whole, and beside a video "
    "the tokens of an image are kept like text"
)


@dataclass(frozen=True)
class VideoPrompt:
    """A prompt that brings videos, while its ids are known."""

    placeholder: Bool[Tensor, "b s"]  # rows that features of videos replace
    input_ids: Int[Tensor, "b s"] | None
    encoded: Any  # features that were made before; None where the prompt brings pixels


def video_prompt(adapter: VideoLLM, given: dict[str, Any]) -> VideoPrompt | None:
    """The prompt in the arguments of a call to the model, None if it brings no video.

    Raises LayoutError where a sample holds more than one video, side by side or apart.
    """
    videos = _videos_in(given)
    if not videos:
        return None
    input_ids = given.get("input_ids")
    placeholder = adapter.placeholders(input_ids, given.get("inputs_embeds"))
    samples = int(placeholder.any(1).sum())
    if samples and videos > samples:
        raise LayoutError(
            "a sample holds several videos: compress one video per sample, or concatenate their "
            f"frames (videos: {videos}, samples that have one: {samples})"
        )
    return VideoPrompt(placeholder, input_ids, compat.encoded_media(given, "video"))


def _videos_in(given: dict[str, Any]) -> int:
    """How many videos a call to the model brings, as pixels `[v f c h w]` or as features `[v s d]`.

    One where they come in another form, which is for the model to judge.
    """
    pixels, encoded = given.get("pixel_values_videos"), compat.encoded_media(given, "video")
    if pixels is not None:
        return len(pixels) if pixels.ndim == 5 else 1
    if encoded is None:
        return 0
    features = encoded.pooler_output
    return len(features) if features.ndim == 3 else 1


def images_in(given: dict[str, Any]) -> bool:
    """Whether a call to the model brings images."""
    return given.get("pixel_values") is not None or compat.encoded_media(given, "image") is not None


def beyond(config: PreTrainedConfig, given: dict[str, Any], what: str) -> str | None:
    """What to say about `inputs_embeds` that are about to enter a language model.

    None where its context holds them.
    """
    context, rows = context_of(config), given["inputs_embeds"].shape[1]
    if context is None or rows <= context:
        return None
    if (mask := flat_mask(given.get("attention_mask"))) is not None:
        rows = int(mask.sum(1).max())
    if rows <= context:
        return None
    return (
        f"{what} has {rows:,} tokens, but the model's context holds {context:,} positions "
        "(max_position_embeddings): what lies beyond is outside what the model was made for, so "
        "give fewer frames or keep fewer tokens"
    )


def unseen(pipeline: str, layer: int | None) -> str | None:
    """What to say where nothing of a video reaches `layer`; None where all layers see some of it.

    It is legal, for a baseline without the video, but seldom meant.
    """
    if layer is None:
        return None
    return (
        f"{pipeline} leaves no token of a video from LLM layer {layer} on: the answer is made "
        "without it"
    )
