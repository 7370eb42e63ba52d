"""Padded, ragged batches: which columns hold which sample's text and visual rows.

Axes: `b` samples, `s` padded columns, `m` padded columns after packing, `r` columns of questions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tokenprune.adapters.rows import Rows
from tokenprune.sequence import BESIDE
from tokenprune.tokens import TEXT, Video


class Unit(NamedTuple):
    """What a budget is for: one video of one sample."""

    sample: int
    first: int  # its first frame, counted through all videos of the sample
    video: Video
    image: bool = False  # a video of one frame that came as an image

    def frame(self, frame: Int[Tensor, "*r"]) -> Int[Tensor, "*r"]:
        """Frames of the sample's rows as this video counts them; what belongs to none is text."""
        own = frame - self.first
        return own.masked_fill((own < 0) | (own >= self.video.frames), TEXT)


@dataclass(frozen=True)
class Layout:
    """The rows that a run of LLM layers sees; a prefill stage begins a new one."""

    valid: Bool[Tensor, "b s"]  # False on padding
    frame: Int[Tensor, "b s"]  # of all videos of the sample; TEXT on text and padding
    slot: Int[Tensor, "b s"]  # cell of the uncompressed grid, of visual rows
    row: Int[Tensor, "b s"]  # place in the sample's own sequence that entered layer 0
    videos: tuple[tuple[Video, ...], ...]  # by sample, uncompressed
    images: tuple[int, ...]  # how many of the last ones of each sample came as images

    @classmethod
    def of(cls, rows: Rows, valid: Bool[Tensor, "b s"], images: Rows | None = None) -> Layout:
        """The layout of an uncompressed prompt, its `images` behind its videos."""
        row = (valid.cumsum(1) - 1).clamp(min=0)
        if images is None:
            none = (0,) * len(rows.videos)
            return cls(valid, rows.frame, rows.slot, row, rows.videos, none)
        both = rows.with_images(images)
        numbers = tuple(len(own) for own in images.videos)
        return cls(valid, both.frame, both.slot, row, both.videos, numbers)

    @property
    def units(self) -> list[Unit]:
        """All videos, sample after sample."""
        units: list[Unit] = []
        for sample, own in enumerate(self.videos):
            first, videos = 0, len(own) - self.images[sample]
            for number, video in enumerate(own):
                units.append(Unit(sample, first, video, number >= videos))
                first += video.frames
        return units

    def frames(self, sample: int) -> int:
        """How many all videos of a sample have."""
        return sum(video.frames for video in self.videos[sample])

    @property
    def mask(self) -> Bool[Tensor, "b s"] | None:
        """The 2-D attention mask, None where nothing is padded."""
        return visible_mask(self.valid)

    @property
    def last(self) -> Int[Tensor, "b"]:
        """The column of every sample's last row."""
        columns = torch.arange(self.valid.shape[1], device=self.valid.device)
        return torch.where(self.valid, columns, -1).max(dim=1).values

    @property
    def behind(self) -> Bool[Tensor, "b s"]:
        """Text behind the last video of its sample, without newlines; none without a video."""
        columns = torch.arange(self.valid.shape[1], device=self.valid.device)
        last = torch.where(self.visual, columns, -1).amax(dim=1, keepdim=True)
        words = self.valid & ~self.visual & (self.slot != BESIDE)
        return words & (columns > last) & (last >= 0)

    @property
    def question(self) -> Int[Tensor, "b r"]:
        """The columns of `behind`, in order; column 0 fills up the shorter ones."""
        rows = [own.nonzero().squeeze(-1) for own in self.behind]
        return pad_sequence(rows, batch_first=True)

    @property
    def visual(self) -> Bool[Tensor, "b s"]:
        return self.frame != TEXT

    def counts(self, sample: int) -> Int[Tensor, "f"]:
        """Visual rows per frame of one sample."""
        frame = self.frame[sample]
        return torch.bincount(frame[frame != TEXT], minlength=self.frames(sample))

    def text(self, sample: int) -> int:
        """Rows of a sample that are not visual."""
        return int((self.valid[sample] & ~self.visual[sample]).sum())

    def columns(self, unit: Unit) -> Int[Tensor, "n"]:
        """The columns that hold tokens of a video, in order."""
        return (unit.frame(self.frame[unit.sample]) != TEXT).nonzero().squeeze(-1)

    def keep(
        self, kept: Bool[Tensor, "b s"], place: Int[Tensor, "b s"] | None = None
    ) -> tuple[Layout, Int[Tensor, "b m"]]:
        """The layout of the surviving rows, and the columns they come from.

        They are packed to the side they were packed to, in their order or by `place`.
        """
        columns, valid = pack(kept & self.valid, self._ends_padded(), place)
        chosen = {name: getattr(self, name).gather(1, columns) for name in ("frame", "slot", "row")}
        chosen["frame"] = chosen["frame"].masked_fill(~valid, TEXT)
        return replace(self, valid=valid, **chosen), columns

    def _ends_padded(self) -> bool:
        return not bool(self.valid[:, -1].all())


def pack(
    kept: Bool[Tensor, "b s"], right: bool, place: Int[Tensor, "b s"] | None = None
) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
    """Columns that bring the kept rows of every sample together, and which of them are real.

    In their order, or by `place`. Padding goes to the left, where `generate` wants it, or to the
    `right` if the batch came padded there.
    """
    width = int(kept.sum(1).max())
    if place is not None:  # what is not kept goes to the side of the padding
        key = torch.where(kept, place, place.shape[1] if right else -1)
    else:
        key = (~kept if right else kept).to(torch.int8)
    order = key.argsort(dim=1, stable=True)
    order = order[:, :width] if right else order[:, kept.shape[1] - width :]
    return order, kept.gather(1, order)


def visible_mask(valid: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"] | None:
    """None where everything is visible, which the fastest kernels want."""
    return None if bool(valid.all()) else valid


def take(states: Tensor, columns: Int[Tensor, "b m"]) -> Tensor:
    """Columns of every sample, from `[b or 1, s, ...]`; whole rows are copied, once."""
    columns = columns.to(states.device)
    samples = torch.arange(len(columns), device=states.device).unsqueeze(-1)
    return states.expand(len(columns), *states.shape[1:])[samples, columns]
