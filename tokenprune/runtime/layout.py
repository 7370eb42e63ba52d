"""Padded, ragged batches: which columns hold which sample's text and visual rows.

What follows from ids, mask and budgets is known to the host, in numpy, and goes to the device at
once, when something there needs it. What a stage has chosen by its scores only the device knows:
nothing here waits for it.

Axes: `b` samples, `s` padded columns, `m` padded columns after packing, `r` columns of questions,
`n` those of a video, `p` rows of a sample, `w` words behind a video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune.adapters.rows import Rows
from tokenprune.runtime.table import Array, Table, counted, packed, send
from tokenprune.sequence import BESIDE, OTHER
from tokenprune.tokens import TEXT, Video

PARTS = ("frame", "slot", "row")


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

    def own(self, frame: Int[Array, "*r"]) -> Int[Array, "*r"]:
        """The same on the host."""
        own = frame - self.first
        return np.where((own < 0) | (own >= self.video.frames), TEXT, own)


class Layout:
    """The rows that a run of LLM layers sees; a prefill stage begins a new one.

    Args:
        real: on the host: False on padding
        videos: by sample, uncompressed
        images: how many of the last ones of each sample came as images
        device: where prompts go
        known: those of `frame`, `slot` and `row` that the host knows
        chosen: what makes the others on the device
        beside: which columns belong to a video without being a token of it, where `slot` is not
            known

    `frame` counts all videos of the sample and is TEXT on text and padding; `slot` is the cell of
    the uncompressed grid, of visual rows; `row` the place in the sample's own sequence that entered
    layer 0.
    """

    def __init__(
        self,
        real: Bool[Array, "b s"],
        videos: tuple[tuple[Video, ...], ...],
        images: tuple[int, ...],
        device: torch.device,
        known: Mapping[str, Int[Array, "b s"]],
        chosen: Mapping[str, Callable[[], Int[Tensor, "b s"]]] | None = None,
        beside: Bool[Array, "b s"] | None = None,
    ) -> None:
        self.real, self.videos, self.images, self.device = real, videos, images, device
        self._known, self._chosen, self._beside = dict(known), dict(chosen or {}), beside
        self._entered: dict[Unit, Tensor] = {}
        self._words: dict[Unit, Array | None] = {}

    @classmethod
    def of(
        cls,
        rows: Rows,
        real: Bool[Array, "b s"],
        device: torch.device,
        images: Rows | None = None,
    ) -> Layout:
        """The layout of an uncompressed prompt, its `images` behind its videos."""
        both = rows if images is None else rows.with_images(images)
        numbers = tuple(0 if images is None else len(images.videos[n]) for n in range(len(real)))
        known = {"frame": both.frame, "slot": both.slot, "row": counted(real)}
        return cls(real, both.videos, numbers, device, known)

    # what the host knows

    @property
    def samples(self) -> int:
        return len(self.real)

    @property
    def width(self) -> int:
        """Padded columns."""
        return self.real.shape[1]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each sample."""
        return tuple(self.real.sum(1).tolist())

    @cached_property
    def padded(self) -> bool:
        return not self.real.all()

    @cached_property
    def ends_padded(self) -> bool:
        """Whether padding stands on the right."""
        return self.padded and not self.real[:, -1].all()

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The column of every sample's last row."""
        columns = np.where(self.real, np.arange(self.width), -1)
        return tuple(columns.max(1).tolist())

    @cached_property
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

    def known(self, part: str) -> Int[Array, "b s"] | None:
        """`frame`, `slot` or `row`, where the host knows it."""
        return self._known.get(part)

    def read(self, part: str) -> Int[Array, "b s"]:
        """The same, read from the device where the host does not know it."""
        if part not in self._known:
            there: Tensor = getattr(self, part)
            self._known[part] = np.array(there.tolist(), np.int64).reshape(self.real.shape)
        return self._known[part]

    @cached_property
    def behind(self) -> Bool[Array, "b s"]:
        """Text behind the last video of its sample, without newlines; none without a video."""
        columns, visual = np.arange(self.width), self.read("frame") != TEXT
        last = np.where(visual, columns, -1).max(1, initial=-1)[:, None]
        words = self.real & ~visual & ~self._newlines
        return words & (columns > last) & (last >= 0)

    @property
    def _newlines(self) -> Bool[Array, "b s"]:
        """Columns that belong to a video without being a token of it."""
        if self._beside is not None and "slot" not in self._known:
            return self._beside
        return self.read("slot") == BESIDE

    @property
    def question(self) -> Int[Tensor, "b r"]:
        """The columns of `behind`, in order; column 0 fills up the shorter ones."""
        rows = [np.flatnonzero(own) for own in self.behind]
        filled = np.zeros((self.samples, max(map(len, rows))), dtype=np.int64)
        for into, own in zip(filled, rows, strict=True):
            into[: len(own)] = own
        return send(filled, self.device)

    def text(self, sample: int) -> int:
        """Rows of a sample that are not visual."""
        return int((self.real[sample] & (self.read("frame")[sample] == TEXT)).sum())

    def own(self, unit: Unit) -> Int[Array, "n"]:
        """The columns that hold tokens of a video, in order."""
        return np.flatnonzero(unit.own(self.read("frame")[unit.sample]) != TEXT)

    def slots(self, sample: int) -> list[list[int]]:
        """Per frame, the cells whose token a sample has."""
        frame, slot = (self.read(part)[sample] for part in ("frame", "slot"))
        # a merging stage may have put frames in another order
        order = frame.argsort(kind="stable")
        counts = np.bincount(frame[frame != TEXT], minlength=self.frames(sample))
        visual = slot[order][len(frame) - counts.sum() :]
        return [cells.tolist() for cells in np.split(visual, counts.cumsum()[:-1])]

    # on the device, made when they are asked for

    @cached_property
    def _sent(self) -> dict[str, Tensor]:
        """All that the host knows, in one transfer."""
        names = [part for part in PARTS if part in self._known]
        known = send(np.stack([self.real, *(self._known[part] for part in names)]), self.device)
        return dict(zip(["valid", *names], known.unbind(), strict=True))

    def _part(self, name: str) -> Int[Tensor, "b s"]:
        return self._sent[name] if name in self._known else self._chosen[name]()

    @cached_property
    def last(self) -> Int[Tensor, "b"]:
        """The column of every sample's last row."""
        return send(np.array(self.ends), self.device)

    def columns(self, unit: Unit) -> Int[Tensor, "n"]:
        """The columns that hold tokens of a video, in order."""
        return send(self.own(unit), self.device)

    @cached_property
    def valid(self) -> Bool[Tensor, "b s"]:
        """False on padding."""
        return self._sent["valid"].bool()

    @cached_property
    def frame(self) -> Int[Tensor, "b s"]:
        frame = self._part("frame")
        if "frame" in self._known or not self.padded:
            return frame
        return frame.masked_fill(~self.valid, TEXT)  # padding is nobody's

    @cached_property
    def slot(self) -> Int[Tensor, "b s"]:
        return self._part("slot")

    @cached_property
    def row(self) -> Int[Tensor, "b s"]:
        return self._part("row")

    @property
    def visual(self) -> Bool[Tensor, "b s"]:
        return self.frame != TEXT

    @property
    def mask(self) -> Bool[Tensor, "b s"] | None:
        """The 2-D attention mask, None where nothing is padded, which the fastest kernels want."""
        return self.valid if self.padded else None

    def entered(self, unit: Unit) -> Int[Tensor, "p"]:
        """Of each row of the unit's sample, its frame; OTHER on tokens of another video."""
        if unit not in self._entered:
            every = self.read("frame")[unit.sample]
            own = unit.own(every)
            own[(own == TEXT) & (every != TEXT)] = OTHER
            self._entered[unit] = send(own[self.real[unit.sample]], self.device)
        return self._entered[unit]

    def words(self, unit: Unit) -> Int[Array, "w"] | None:
        """How far behind the last row of the unit's sample the words behind its video are: below 0.

        Nothing else stands there, so that it is the same in every later layout; None where other
        videos do.
        """
        if unit not in self._words:
            real = self.real[unit.sample]
            frame, beside = (
                part[unit.sample][real] for part in (self.read("frame"), self._newlines)
            )
            first = int(np.flatnonzero(unit.own(frame) != TEXT).max(initial=-1)) + 1
            words = np.flatnonzero(~beside[first:]) + first - len(frame)
            self._words[unit] = None if (frame[first:] != TEXT).any() else words
        return self._words[unit]

    def keep(self, lengths: Sequence[int], columns: Table) -> Layout:
        """The layout of `lengths` rows of each sample that are left, at `columns` of this one.

        They are packed to the side that they were packed to. What the device has chosen is looked
        up there when somebody asks.
        """
        real = packed(lengths, self.ends_padded)
        known: dict[str, Array] = {}
        if columns.known is not None:
            every = {part: self._known[part] for part in PARTS if part in self._known}
            known = {
                name: np.take_along_axis(part, columns.known, 1) for name, part in every.items()
            }
        if "frame" in known:
            known["frame"][~real] = TEXT
        chosen = {name: partial(self._gathered, name, columns) for name in PARTS}
        return Layout(real, self.videos, self.images, self.device, known, chosen)

    def _gathered(self, name: str, columns: Table) -> Int[Tensor, "b m"]:
        return getattr(self, name).gather(1, columns.on(self.device))
