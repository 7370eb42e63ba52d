"""What LLaVA families of transformers share: tower, projector and language model under one body.

A family states how many tokens a frame has, how their features are pooled, and what lies behind
the last of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tokenprune import compat
from tokenprune.adapters.base import Given, VideoLLM
from tokenprune.adapters.preparation import Frames, Preparation, fit
from tokenprune.adapters.rows import sources
from tokenprune.adapters.vision import TowerBlock
from tokenprune.errors import UnsupportedModelError
from tokenprune.pixels import Cropped, Pixels
from tokenprune.tokens import Video


def size_of(config: PreTrainedConfig) -> int:
    """Pixels along a side of a frame as the tower sees it."""
    size = config.vision_config.image_size
    return size if isinstance(size, int) else size[0]


def patch_of(config: PreTrainedConfig) -> int:
    """Pixels along a side of a patch."""
    patch = config.vision_config.patch_size
    return patch if isinstance(patch, int) else patch[0]


def patches_of(config: PreTrainedConfig) -> int:
    """Patches along a side of a frame."""
    return size_of(config) // patch_of(config)


class Llava(VideoLLM):
    """A `...ForConditionalGeneration` whose `model` holds `vision_tower` and `language_model`."""

    # where the tower has its layers, and a layer its attention
    tower_layers: ClassVar[tuple[str, str]] = ("encoder.layers", "self_attn")
    # and, behind the attention, its second norm and feed-forward network
    tower_halves: ClassVar[tuple[str, str]] = ("layer_norm2", "mlp")
    # how frames are made as large as the tower sees them
    prepares: ClassVar[type[Pixels] | type[Cropped]] = Pixels
    # rows of every frame that are not visual tokens (CLS): text for every stage
    beside: ClassVar[int] = 0

    @classmethod
    @abstractmethod
    def side(cls, config: PreTrainedConfig) -> int:
        """Visual tokens along one side of a frame at the LLM's input."""

    @classmethod
    def preparation(cls, config: PreTrainedConfig, settings: Mapping[str, Any]) -> Preparation:
        size = size_of(config)
        pixels = fit(cls.prepares.of(settings, size), size)
        return Frames(pixels, cls.side(config), cls.beside, cls.separators)

    @property
    def tower(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.body.get_submodule("vision_tower"))

    @property
    def tower_attention(self) -> nn.Module:
        where, attention = self.tower_layers
        layers = cast(nn.ModuleList, self.tower.get_submodule(where))
        chosen = getattr(self.model.config, "vision_feature_layer", -1)
        if not isinstance(chosen, int):
            raise UnsupportedModelError(
                f"this checkpoint concatenates vision layers {chosen}: tower signals are defined "
                "for one layer only"
            )
        # hidden state i is the output of layer i - 1; the last hidden state is index -1
        return layers[chosen if chosen < 0 else chosen - 1].get_submodule(attention)

    @property
    def tower_blocks(self) -> list[TowerBlock]:
        where, attention = self.tower_layers
        parts = (attention, *self.tower_halves)
        layers = cast(nn.ModuleList, self.tower.get_submodule(where))
        return [
            TowerBlock(layer, *(layer.get_submodule(part) for part in parts)) for layer in layers
        ]

    @property
    def tower_rows(self) -> int:
        return patches_of(self.model.config) ** 2 + int(self.cls)

    def tower_patches(self, given: Given) -> Float[Tensor, "f p v"]:
        """What is left at the right and lower border of frames is part of no patch."""
        pixels: Float[Tensor, "f 3 h w"] = given["pixel_values"]
        side = patch_of(self.model.config)
        squares = pixels.unfold(2, side, side).unfold(3, side, side)
        return squares.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def lengths(self, given: Given) -> list[int] | None:
        pixels: Tensor = given["pixel_values_videos"]  # [v f 3 h w]
        return [pixels.shape[1]] * len(pixels)

    @property
    def cells(self) -> int:
        """Visual tokens of one frame at the LLM's input."""
        return self.side(self.model.config) ** 2

    @abstractmethod
    def pool(self, maps: Float[Tensor, "f p d"]) -> Float[Tensor, "f q d"]:
        """The host's 2-D pooling, for maps that go with the features."""

    @property
    def sight(self) -> str:
        return f"{self.cells} tokens per frame behind placeholder {self.video_token_id}"

    def video(self, frames: int) -> Video:
        """A video of so many frames, whose cells are as many down as across."""
        side = self.side(self.model.config)
        return Video(frames, side, side)

    def shown(self, given: Given) -> tuple[Video, ...]:
        return (self.video(len(given["pixel_values"])),)

    def to_cells(self, maps: Float[Tensor, "f p d"], video: Video) -> Float[Tensor, "f c d"]:
        return self.pool(maps)

    def brings(self, given: Given) -> bool:
        pixels = given.get("pixel_values_videos")
        return pixels is not None or compat.encoded_media(given, "video") is not None

    def known_videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> list[Video]:
        pixels: Tensor | None = given.get("pixel_values_videos")
        if pixels is not None:  # [v f 3 h w]
            return [self.video(pixels.shape[1])] * len(pixels)
        features = compat.encoded_media(given, "video").pooler_output  # [v s d]
        return [self.video(self._frames(features.shape[1]))] * len(features)

    def _frames(self, rows: int) -> int:
        """How many frames a video of so many rows has."""
        one, two = (len(self.pattern(self.video(frames))) for frames in (1, 2))
        return (rows - one) // (two - one) + 1

    def see(
        self, input_ids: Int[Tensor, "b s"], given: Given, videos: Sequence[Sequence[Video]]
    ) -> dict[str, Any]:
        pixels: Float[Tensor, "i c h w"] = given["pixel_values"]
        frames = next(video.frames for own in videos for video in own)
        number = sources(videos, len(pixels) * self.cells)
        seen = pixels.to(self.device, self.model.dtype).unflatten(0, (-1, frames))
        return {"inputs_embeds": self.embed(input_ids.to(self.device), seen[number])}

    def embed(
        self, input_ids: Int[Tensor, "b s"], pixels: Float[Tensor, "*v c h w"]
    ) -> Float[Tensor, "b s d"]:
        embedded = self.model.get_input_embeddings()(input_ids)
        encode = getattr(self.eyes, f"get_{self.modality}_features")
        features: Tensor = encode(pixels, return_dict=True).pooler_output
        video = self.placeholders(input_ids, None).unsqueeze(-1)
        return embedded.masked_scatter(video, features.flatten(0, 1).to(embedded.dtype))
