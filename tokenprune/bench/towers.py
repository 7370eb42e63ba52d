"""Multiply-adds of a vision tower and of the projector behind it, by frame.

A frame attends to itself alone, and in a window layer a window does: no product crosses either. A
frame of a tower with grids is a temporal patch, two frames of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedConfig

from tokenprune.runtime.tower_report import TowerLayer


class Grid(NamedTuple):
    """The patches of one frame: how many are above and beside each other."""

    height: int
    width: int

    @property
    def patches(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Tower:
    """The sizes of a vision tower that a count depends on.

    Args:
        layers: how many
        width: of the hidden states
        ffn: width inside the feed-forward network
        matrices: of the feed-forward network: two, or three with a gate
        values: numbers of one patch, before its embedding
        cls: rows before the patches (0 or 1)
        window: side of a window in patches; 0 where no layer has windows
        windowed: how many of the layers attend inside windows
        pooled: whether an attention pooling head of one query runs behind the layers
    """

    layers: int
    width: int
    ffn: int
    values: int
    matrices: int = 2
    cls: int = 0
    window: int = 0
    windowed: int = 0
    pooled: bool = False

    @classmethod
    def of(cls, vision: PreTrainedConfig) -> Tower:
        """From the configuration of a tower of SigLIP, CLIP, InternVL or Qwen-VL."""
        if hasattr(vision, "spatial_merge_size"):
            return _packed(vision)
        side, _ = _pair(vision.patch_size)
        return cls(
            layers=vision.num_hidden_layers,
            width=vision.hidden_size,
            ffn=vision.intermediate_size,
            values=vision.num_channels * side**2,
            cls=int(not vision.model_type.startswith("siglip")),
            # what published checkpoints leave out; where it is, it runs although nobody reads it
            pooled=getattr(vision, "vision_use_head", False),
        )

    def encode(self, grid: Grid) -> int:
        """One frame through all layers."""
        rows = grid.patches + self.cls
        layers = [TowerLayer(rows, rows**2, rows)] * (self.layers - self.windowed)
        if self.windowed:
            windows = TowerLayer(rows, window_pairs(grid, self.window), rows)
            layers += [windows] * self.windowed
        return self.shrunk(1, grid, layers)

    def shrunk(self, frames: int, grid: Grid, layers: Sequence[TowerLayer]) -> int:
        """Frames through layers that each worked on so much of them.

        What a stage inside the tower computes to find that out is in its time, and not in here.
        """
        d = self.width
        products = sum(4 * layer.rows * d**2 + 2 * layer.pairs * d for layer in layers)
        fed = sum(layer.fed for layer in layers) * self.matrices * d * self.ffn
        stem = grid.patches * self.values * d
        return products + fed + frames * (stem + self._pooling(grid.patches + self.cls))

    def share(self, frames: int, grid: Grid, layers: Sequence[TowerLayer]) -> float:
        """The same, as a fraction of what these frames take in full."""
        return self.shrunk(frames, grid, layers) / (frames * self.encode(grid))

    def _pooling(self, rows: int) -> int:
        """One query over all rows, and a feed-forward network over what it read."""
        if not self.pooled:
            return 0
        d = self.width
        return 2 * d**2 + 2 * rows * d**2 + 2 * rows * d + 2 * d * self.ffn


def window_pairs(grid: Grid, window: int) -> int:
    """Query-key pairs of one frame whose windows are `window` patches wide and high.

    Windows at the right and lower border hold what is left.
    """
    return _squares(grid.height, window) * _squares(grid.width, window)


def _squares(length: int, window: int) -> int:
    """The sum of squared lengths of the pieces that windows cut `length` into."""
    whole, rest = divmod(length, window)
    return whole * window**2 + rest**2


def _packed(vision: Any) -> Tower:
    """Towers of the Qwen-VL families, which take patches with their grids."""
    older = hasattr(vision, "embed_dim")  # Qwen2-VL: `hidden_size` is the language model's
    width = vision.embed_dim if older else vision.hidden_size
    full = getattr(vision, "fullatt_block_indexes", None)
    side, _ = _pair(vision.patch_size)
    time, _ = _pair(vision.temporal_patch_size)
    window = 0
    if full is not None:  # counted in whole cells
        window = vision.window_size // side // vision.spatial_merge_size * vision.spatial_merge_size
    return Tower(
        layers=vision.depth,
        width=width,
        ffn=int(width * vision.mlp_ratio) if older else vision.intermediate_size,
        values=vision.in_channels * time * side**2,
        matrices=2 if full is None else 3,  # Qwen2.5-VL alone has windows, and a gate
        window=window,
        windowed=0 if full is None else vision.depth - len(full),
    )


def own_grid(vision: PreTrainedConfig) -> Grid:
    """Of a frame in the tower's own size; towers with grids have none."""
    height, width = _pair(vision.image_size)
    down, across = _pair(vision.patch_size)
    return Grid(height // down, width // across)


def project(config: PreTrainedConfig, grid: Grid) -> int:
    """One frame from the tower's rows to the language model's width, deepstack included."""
    vision: Any = config.vision_config
    d, width, rows = Tower.of(vision).width, config.get_text_config().hidden_size, grid.patches
    if hasattr(vision, "spatial_merge_size"):
        block = vision.spatial_merge_size**2
        mergers = 1 + len(getattr(vision, "deepstack_visual_indexes", ()))
        return mergers * rows // block * ((block * d) ** 2 + block * d * width)
    if hasattr(config, "downsample_ratio"):  # InternVL: pixel shuffle
        block = round(1 / config.downsample_ratio) ** 2
        return rows // block * (block * d * width + width**2)
    if hasattr(config, "mm_tokens_per_image"):  # Gemma 3: averaged, then one matrix
        return config.mm_tokens_per_image * d * width
    if config.model_type == "llava_next_video":  # pools before it projects
        stride = config.spatial_pool_stride
        rows = grid.height // stride * (grid.width // stride)
    if config.model_type == "video_llava":  # projects CLS, too
        rows += 1
    chosen = config.vision_feature_layer
    joined = d * (1 if isinstance(chosen, int) else len(chosen))
    return rows * (joined * width + width**2)


def _pair(value: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """A size that may be written once for both sides."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])
