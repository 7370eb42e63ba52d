"""How Qwen's families take videos and images: patches of any size, in pairs of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tokenprune.adapters.preparation import Preparation, Shown, Written
from tokenprune.errors import LoadingError
from tokenprune.pixels import Patches
from tokenprune.tokens import Video


@dataclass(frozen=True)
class Grids(Preparation):
    """Patches of any size, two frames at once, in one run of placeholders: Qwen2-VL, Qwen2.5-VL.

    `seconds`: the model is told how far apart its frames are.
    """

    pixels: Patches
    seconds: bool = False

    ragged = sized = True
    types = ("mm_token_type_ids", 2)
    names: ClassVar[tuple[str, str]] = ("pixel_values_videos", "video_grid_thw")

    def video(self, frames: int, height: int, width: int) -> Video:
        pairs, tall, wide = self.pixels.grid(frames, height, width)
        return Video(pairs, tall // self.pixels.merge, wide // self.pixels.merge)

    def written(self, video: Video, times: Sequence[float]) -> tuple[Written, ...]:
        return ((video.tokens,),)

    def moments(self, times: Sequence[float]) -> tuple[float, ...]:
        """The mean of each pair's; the last frame of an odd number is seen twice."""
        pair = self.pixels.pair
        every = list(times) + [times[-1]] * (-len(times) % pair)
        firsts, lasts = every[::pair], every[pair - 1 :: pair]
        return tuple((first + last) / 2 for first, last in zip(firsts, lasts, strict=True))

    def tensors(self, shown: Sequence[Shown]) -> dict[str, Tensor]:
        merge, videos = self.pixels.merge, [one.video for one in shown]
        grids = [(video.frames, video.height * merge, video.width * merge) for video in videos]
        pixels, sizes = self.names
        made = {
            pixels: torch.cat([one.pixels for one in shown]),
            sizes: torch.tensor(grids),
        }
        if self.seconds:
            apart = [self.pixels.pair * spacing(one.times) for one in shown]
            made["second_per_grid_ts"] = torch.tensor(apart)
        return made


@dataclass(frozen=True)
class Timed(Grids):
    """The same, one run for each pair of frames, behind the seconds it is from: Qwen3-VL.

    transformers replaces the placeholder only, so that the template's own marks stay around these.
    """

    start: ClassVar[str] = "<|vision_start|>"
    end: ClassVar[str] = "<|vision_end|>"

    def written(self, video: Video, times: Sequence[float]) -> tuple[Written, ...]:
        pieces: list[str | int] = []
        for moment in times:
            pieces += [f"<{moment:.1f} seconds>{self.start}", video.cells, self.end]
        return (tuple(pieces),)


@dataclass(frozen=True)
class Pictures(Grids):
    """Images beside videos, each in one run: seen twice, as pairs are."""

    entry = "image"
    types = ("mm_token_type_ids", 1)
    names = ("pixel_values", "image_grid_thw")


def pictures_of(settings: Mapping[str, Any]) -> Patches:
    """Patches of images, as `Qwen2VLImageProcessor` has them where `settings` say nothing."""
    size = settings.get("size") or {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
    return Patches.of({**settings, "size": size})


def spacing(times: Sequence[float]) -> float:
    """Seconds from one frame to the next, on average; 1 where there is one frame only."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0


def fit_patches(patches: Patches, vision: Any) -> Patches:
    """`patches`, if they are those of a tower with the configuration `vision`.

    Raises LoadingError.
    """
    made = (patches.side, patches.merge, patches.pair)
    taken = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
    if made != taken:
        raise LoadingError(
            f"the checkpoint prepares patches (size, merged, frames) of {made} for a tower that "
            f"takes {taken}: its preprocessor configuration belongs to another model"
        )
    return patches
