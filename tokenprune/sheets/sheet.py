"""What a contact sheet shows of one system and one sample: plain numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

Picture = np.ndarray  # uint8 [h w 3], RGB, of any size
Number = float | int
_EQUAL = 0.0005  # what is not shown


@dataclass(frozen=True)
class Sheet:
    """One system's contact sheet.

    Args:
        label: of the system
        frames: a picture of each frame, in order; empty where there are none: cells alone are drawn
        slots: per frame, the cells whose token was kept, counted along rows
        grids: per frame, its height and width in cells
        seconds: at which each frame appears, where known
        weights: of frames, of an allocator
        evidence: numbers of frames that hold what is asked about, from 0
        answer: what the system answered
        layers: visual tokens that each layer of the language model saw
        full: visual tokens without compression; 0: as many as the grids have cells
        decode: visual tokens that each decoding step saw
        merged: whether a kept cell may stand for several tokens

    Raises ValueError where lists do not go together, or a slot is no cell of its frame.
    """

    label: str
    frames: Sequence[Picture]
    slots: Sequence[Sequence[int]]
    grids: Sequence[tuple[int, int]]
    seconds: Sequence[Number] | None = None
    weights: Sequence[Number] | None = None
    evidence: Sequence[int] = ()
    answer: str = ""
    layers: Sequence[int] = ()
    full: int = 0
    decode: Sequence[int] = ()
    merged: bool = False

    def __post_init__(self) -> None:
        number = len(self.slots)
        lists = {"grids": self.grids, "seconds": self.seconds, "weights": self.weights}
        if len(self.frames):
            lists["frames"] = self.frames
        for name, values in lists.items():
            if values is not None and len(values) != number:
                raise ValueError(f"{len(values)} {name} for slots of {number} frames")
        for frame, (cells, (height, width)) in enumerate(zip(self.slots, self.grids, strict=True)):
            if len(cells) and not 0 <= min(cells) <= max(cells) < height * width:
                raise ValueError(f"frame {frame} of {height} x {width} cells has slots {cells}")
        if any(not 0 <= frame < number for frame in self.evidence):
            raise ValueError(f"evidence {list(self.evidence)} in {number} frames")

    @property
    def kept(self) -> int:
        """Cells that were kept, of all frames."""
        return sum(len(cells) for cells in self.slots)

    @property
    def total(self) -> int:
        """Visual tokens without compression."""
        return self.full or sum(height * width for height, width in self.grids)

    @property
    def average(self) -> float | None:
        """Kept fraction, mean over layers, where that is another than `kept` says."""
        if not self.layers or not self.total:
            return None
        mean = fmean(self.layers) / self.total
        return mean if abs(mean - self.kept / self.total) > _EQUAL else None
