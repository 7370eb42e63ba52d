"""What flows between the stages: immutable views of one sample, unpadded and frame-major.

Axes: `n` visual tokens, `s` sequence rows, `f` frames, `d` LLM width, `k` key width, `l` layers,
`h` query heads, `g` key/value heads, `e` head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TEXT = -1  # the frame of a row that is not visual


Saliency = Literal["received", "mean_query", "cls"]


class Signals(NamedTuple):
    """What a vision stage reads in the vision-tower layer whose output the projector takes.

    Args:
        saliency: `"received"` attention received by a patch, mean over heads and query rows
            (VisionZip on towers without CLS); `"mean_query"` softmax of the mean query over all
            keys, one head over the full width (PruMerge, AIM port); `"cls"` that of the CLS row,
            mean over heads, in towers that have one
        keys: `"head_mean"` key projections averaged over heads (VisionZip), or `"full"`, all heads
            side by side (PruMerge)
    """

    saliency: Saliency | None = None
    keys: Literal["head_mean", "full"] | None = None


class Extent(NamedTuple):
    """An uncompressed prompt: its frames, the visual tokens of each, and the LLM's layers."""

    frames: int
    cells: int
    depth: int


class Video(NamedTuple):
    """One uncompressed video at the LLM's input: frames of `height` x `width` visual tokens."""

    frames: int
    height: int
    width: int

    @property
    def cells(self) -> int:
        """Visual tokens of one frame."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        return self.frames * self.cells


@dataclass(frozen=True)
class VisualTokens:
    """The visual tokens of one video between projector and LLM: ragged, frame-major.

    Args:
        features: after projector and pooling, in the LLM's width
        keys: vision-tower keys on the same grid, if a strategy asks
        saliency: attention received in the vision tower, if a strategy asks
        frame: of each token, non-decreasing
        slot: cell of the uncompressed grid: provenance, coordinates, overlays
        frames: how many there are, also those without a token
        cells: how many a frame has
    """

    features: Float[Tensor, "n d"]
    keys: Float[Tensor, "n k"] | None
    saliency: Float[Tensor, "n"] | None
    frame: Int[Tensor, "n"]
    slot: Int[Tensor, "n"]
    frames: int
    cells: int

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def counts(self) -> Int[Tensor, "f"]:
        """Tokens per frame."""
        return torch.bincount(self.frame, minlength=self.frames)

    def __getitem__(self, rows: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> VisualTokens:
        """The tokens at `rows`, a mask or indices in the wanted order.

        No copy when a mask keeps everything.
        """
        if rows.dtype == torch.bool:
            if bool(rows.all()):
                return self
            rows = rows.nonzero().squeeze(-1)
        return VisualTokens(
            features=self.features.index_select(0, rows),
            keys=None if self.keys is None else self.keys.index_select(0, rows),
            saliency=None if self.saliency is None else self.saliency.index_select(0, rows),
            frame=self.frame.index_select(0, rows),
            slot=self.slot.index_select(0, rows),
            frames=self.frames,
            cells=self.cells,
        )

    def dense(self) -> Float[Tensor, "f c d"]:
        """Features on the full grid, zero where no token is (similar to nothing); read only."""
        grid = torch.arange(self.cells, device=self.slot.device).repeat(self.frames)
        if torch.equal(self.slot, grid):
            return self.features.unflatten(0, (self.frames, self.cells))
        full = self.features.new_zeros(self.frames, self.cells, self.features.shape[-1])
        return full.index_put_((self.frame, self.slot), self.features)

    def with_features(self, features: Float[Tensor, "n d"]) -> VisualTokens:
        """The same tokens with new features, for methods that merge."""
        return replace(self, features=features.to(self.features.dtype))


@dataclass(frozen=True)
class SequenceView:
    """What one LLM layer is about to see of one sample: text and visual rows in sequence order.

    Args:
        frame: of each row, -1 on text
        position: row in the sequence that entered layer 0
        attention: the last token's, in the layer below, mean over heads, fp32
        frames: how many there are, since a frame may have lost all its rows; 0: as `frame` has it
    """

    frame: Int[Tensor, "s"]
    position: Int[Tensor, "s"]
    attention: Float[Tensor, "s"]
    frames: int = 0

    def __post_init__(self) -> None:
        if self.frames == 0 and len(self.frame):
            object.__setattr__(self, "frames", int(self.frame.max()) + 1)

    @property
    def visual(self) -> Bool[Tensor, "s"]:
        return self.frame != TEXT

    @property
    def counts(self) -> Int[Tensor, "f"]:
        """Visual rows per frame."""
        return torch.bincount(self.frame[self.visual], minlength=self.frames)


class LastRow(NamedTuple):
    """The last prompt token's queries and the keys of visual tokens in some guide layers."""

    queries: Float[Tensor, "l h e"]
    keys: Float[Tensor, "l g n e"]


class Probe(ABC):
    """The uncompressed prompt as the guide model sees it; what an allocator weighs frames with.

    Nothing is computed until it is asked for, and the guide stops after the last layer asked for.
    """

    depth: int  # LLM layers of the guide
    frame: Int[Tensor, "n"]  # frame of each visual token
    frames: int

    @abstractmethod
    def last_row(self, layers: Sequence[int]) -> LastRow:
        """Queries of the last prompt token and keys of visual tokens in `layers` (0-based)."""
