"""What Qwen's families share: videos of any size as flat patches, positions of three axes (M-RoPE).

A frame of every method is a temporal patch, two pictures of the video. Rows that are left keep
their positions: text behind a video begins behind the largest position of the uncompressed one, and
decoding goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.vision_utils import get_vision_window_index

from tokenprune import compat
from tokenprune.adapters.base import Given, VideoLLM
from tokenprune.adapters.grids import Pictures, fit_patches, pictures_of
from tokenprune.adapters.rows import Array, Rows, placed, shared, sources
from tokenprune.errors import UnsupportedGenerationError, UnsupportedModelError
from tokenprune.tokens import Video


class QwenVL(VideoLLM):
    """A `...ForConditionalGeneration` whose `model` holds `visual` and `language_model`."""

    positions = "original"
    compresses_images = True
    refuses = ("a prompt without `mm_token_type_ids`", "features without `video_grid_thw`")

    @classmethod
    def pictures(
        cls, config: PreTrainedConfig, settings: Callable[[], Mapping[str, Any]]
    ) -> Pictures:
        return Pictures(fit_patches(pictures_of(settings()), config.vision_config))

    @property
    def tower(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.body.get_submodule("visual"))

    @property
    def tower_attention(self) -> nn.Module:
        blocks = cast(nn.ModuleList, self.tower.get_submodule("blocks"))
        whole = getattr(self.tower.config, "fullatt_block_indexes", None)
        if whole is not None and len(blocks) - 1 not in whole:
            raise UnsupportedModelError(
                f"the last block of this {self.model_type} tower attends within windows, so its "
                "attention compares no tokens of a frame: use a strategy that reads no tower"
            )
        return blocks[-1].get_submodule("attn")

    @property
    def merge(self) -> int:
        """Patches along one side of a cell."""
        return self.model.config.vision_config.spatial_merge_size

    @property
    def sight(self) -> str:
        vision = self.model.config.vision_config
        patch = f"{vision.temporal_patch_size}x{vision.patch_size}x{vision.patch_size}"
        return f"{self.merge}x{self.merge} patches of {patch} behind {self.video_token_id}"

    def grid(self, sizes: Int[Tensor, "v 3"]) -> tuple[Video, ...]:
        """Videos from their patches in time, height and width."""
        return tuple(
            Video(time, height // self.merge, width // self.merge)
            for time, height, width in sizes.tolist()
        )

    def shown(self, given: Given) -> tuple[Video, ...]:
        return self.grid(given["grid_thw"])

    def to_cells(self, maps: Float[Tensor, "f p d"], video: Video) -> Float[Tensor, "f c d"]:
        """Patches come cell by cell; a tower with windows has its cells window by window."""
        cells = maps.unflatten(1, (video.cells, -1)).mean(2)
        vision = self.tower.config
        if getattr(vision, "fullatt_block_indexes", None) is None:
            return cells
        size = torch.tensor([[1, video.height * self.merge, video.width * self.merge]])
        order, _ = get_vision_window_index(size, self.merge, vision.window_size, vision.patch_size)
        return cells[:, order.argsort().to(cells.device)]

    @property
    def projector(self) -> nn.Module:
        return self.tower.get_submodule("merger")

    def projected_cells(
        self, states: Float[Tensor, "p w"], videos: Sequence[Video]
    ) -> list[Float[Tensor, "f c w"]]:
        """Patches of all videos of a call, one behind another."""
        patches = [video.tokens * self.merge**2 for video in videos]
        parts = zip(states.split(patches), videos, strict=True)
        return [
            self.to_cells(part.unflatten(0, (video.frames, -1)), video) for part, video in parts
        ]

    def brings(self, given: Given) -> bool:
        pixels = given.get("pixel_values_videos")
        return pixels is not None or compat.encoded_media(given, "video") is not None

    def known_videos(
        self, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> Sequence[Video]:
        return self._known("video", given, counts, [*reversed(shown)])  # images come before videos

    def image_rows(
        self,
        placeholder: Bool[Array, "b s"],
        given: Given,
        shown: Sequence[tuple[Video, ...]],
    ) -> Rows:
        counts = placeholder.sum(1).tolist()
        images = self._known("image", given, counts, shown) if any(counts) else ()
        return placed(placeholder, shared(counts, images, self.pattern), self.pattern)

    def _known(
        self, kind: str, given: Given, counts: Sequence[int], shown: Sequence[tuple[Video, ...]]
    ) -> Sequence[Video]:
        """Sizes of what a call brings: its own, or those of a call of the tower that fits.

        `generate` encodes beforehand, and keeps them.
        """
        if (sizes := given.get(f"{kind}_grid_thw")) is not None:
            return self.grid(sizes)
        for videos in shown:
            tokens = sum(video.tokens for video in videos)
            if tokens and sum(counts) % tokens == 0:
                return videos
        raise UnsupportedGenerationError(
            f"the features of a {kind} come without its size: pass pixels, or {kind}_grid_thw "
            "with the features"
        )

    def see(
        self, input_ids: Int[Tensor, "b s"], given: Given, videos: Sequence[Sequence[Video]]
    ) -> dict[str, Any]:
        ids, sizes = input_ids.to(self.device), given["grid_thw"].to(self.device)
        pixels = given["hidden_states"].to(self.device)
        features = self.eyes.get_video_features(pixels, sizes, return_dict=True)
        number = sources(videos, sum(video.tokens for video in self.grid(sizes)))
        return self._placed(ids, features, number)

    def _placed(self, ids: Int[Tensor, "b s"], features: Any, number: list[int]) -> dict[str, Any]:
        """Embeddings of `ids` with the features of videos, by their `number`, in place."""
        rows = torch.cat([features.pooler_output[place] for place in number])
        embeds = self.model.get_input_embeddings()(ids)
        video = self.placeholders(ids, None).unsqueeze(-1)
        return {"inputs_embeds": embeds.masked_scatter(video, rows.to(embeds.dtype))}

    def check(self, given: Given, rows: Rows) -> None:
        """Without token types a model of this family counts its positions along one axis."""
        positions: Tensor | None = given.get("position_ids")
        if positions is None or positions.ndim == 2:
            flat = True
        else:  # a frame of one token says nothing
            telling = any(video.cells > 1 for own in rows.videos for video in own)
            flat = telling and bool((positions[-3:] == positions[-1]).all())
        if flat:
            raise UnsupportedGenerationError(
                f"this prompt gives {self.model_type} positions along one axis, which is not what "
                "it was trained with: pass mm_token_type_ids (0 text, 1 image, 2 video), as its "
                "processor makes them"
            )

    def narrow(
        self, given: Given, columns: Int[Tensor, "b m"], valid: Bool[Tensor, "b m"]
    ) -> dict[str, Any]:
        """Positions without those of text, whose gaps would be taken for several sequences."""
        narrowed = super().narrow(given, columns, valid)
        return {"position_ids": narrowed["position_ids"][-3:]}
