"""What a prompt brings besides text, seen before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedConfig

from tokenprune import compat
from tokenprune.adapters import VideoLLM
from tokenprune.adapters.context import context_of
from tokenprune.runtime.attention import flat_mask
from tokenprune.runtime.table import Array

IMAGES = (
    "images are not compressed: a prompt without a video passes through whole, and beside a video "
    "the tokens of an image are kept like text"
)


@dataclass(frozen=True)
class VideoPrompt:
    """A prompt that brings videos, while its ids are known."""

    given: dict[str, Any]  # the call to the model
    modality: str  # what its frames come as
    # of each kind of rows that features replace, the token: videos, and images if compressed
    tokens: tuple[int, ...]
    # rows that are its embedding, of each kind, where no ids are given
    marked: tuple[Bool[Tensor, "b s"], ...]

    @property
    def input_ids(self) -> Int[Tensor, "b s"] | None:
        return self.given.get("input_ids")

    @property
    def encoded(self) -> Any:
        """Features that were made before; None where the prompt brings pixels."""
        return compat.encoded_media(self.given, self.modality)

    def read(
        self, mask: Bool[Tensor, "b s"] | Int[Tensor, "b s"] | None
    ) -> tuple[Bool[Array, "b s"], list[Bool[Array, "b s"]]]:
        """Which rows of the prompt are no padding, and the rows of each kind: one read of it all.

        Everything that the host has to know of a prompt follows from this.
        """
        ids = self.input_ids
        asked = [*self.marked] if ids is None else [ids]
        rows = asked if mask is None else [*asked, mask.to(asked[0].device, asked[0].dtype)]
        whole = rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)
        read = (whole if whole.device.type == "cpu" else whole.cpu()).numpy()
        real = np.ones(read.shape[1:], dtype=bool) if mask is None else read[-1] != 0
        kinds = [*read[: len(asked)]] if ids is None else [read[0] == one for one in self.tokens]
        return real, [kind.astype(bool) & real for kind in kinds]


def video_prompt(
    adapter: VideoLLM, given: dict[str, Any], images: bool = False
) -> VideoPrompt | None:
    """The prompt in the arguments of a call to the model, None if it brings no video.

    With `images` those are videos of one frame.
    """
    pictures = images and images_in(adapter, given)
    if not adapter.brings(given) and not pictures:
        return None
    tokens = (adapter.video_token_id,)
    if pictures:
        tokens += (adapter.model.config.image_token_id,)
    ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
    marked = () if ids is not None else tuple(adapter.marked(one, ids, embeds) for one in tokens)
    return VideoPrompt(given, adapter.modality, tokens, marked)


def tensors(features: Any) -> list[Tensor]:
    """The tensors of features that an encoder has returned, in order; of nothing, none."""
    if isinstance(features, Tensor):
        return [features]
    if isinstance(features, Mapping):
        features = [*features.values()]
    if not isinstance(features, list | tuple):
        return []
    return [one for part in features for one in tensors(part)]


def same(features: Any, others: Any) -> bool:
    """Whether these are the same features, on whichever device; what holds them may be another."""
    pairs = [*zip_longest(tensors(features), tensors(others))]
    return bool(pairs) and all(one is other or _equal(one, other) for one, other in pairs)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.equal(one, other.to(one.device))


def images_in(adapter: VideoLLM, given: dict[str, Any]) -> bool:
    """Whether a call to the model brings images that are no frames of a video."""
    if adapter.modality == "image":
        return False
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
