"""What flows between the stages: immutable views of one sample, unpadded and frame-major.

Axes: `n` visual tokens, `i` those that a stage was given, `t` text rows, `f` frames, `d` LLM width,
`k` key width, `c` width of the projector's input, `w` width of a frame's summary, `l` layers, `h`
query heads, `g` key/value heads, `e` head width, `r` rows of the question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.sequence import TEXT as TEXT
from tokenprune.sequence import SequenceView as SequenceView
from tokenprune.sequence import Survivors as Survivors

Saliency = Literal["received", "mean_query", "cls", "pseudo_cls", "pooling_head"]


class Signals(NamedTuple):
    """What a vision stage reads in the vision-tower layer whose output the projector takes.

    Everything lies on the grid of the visual tokens, pooled as they are.

    Args:
        saliency: `"received"` attention received by a patch, mean over heads and query rows
            (VisionZip on towers without CLS); `"mean_query"` softmax of the mean query over all
            keys, one head over the full width (PruMerge, AIM port); `"cls"` that of the CLS row,
            mean over heads, in towers that have one; `"pseudo_cls"` softmax of the mean query of
            the frame in each head, mean over heads (FastVID without a pooling head);
            `"pooling_head"` that of the probe token of a tower's attention pooling head
        keys: `"head_mean"` key projections averaged over heads (VisionZip), or `"full"`, all heads
            side by side (PruMerge)
        tower: `"projector_input"` what the projector takes (VisPruner)
        summary: `"pooling_head"` one vector per frame, the output of that head (FastVID)
        grid: `"patches"` the stage works before projector and pooling: its tokens are the patches
            of the tower, what it leaves goes through the projector (VisionZip before pooling)
        text: `"behind"` embeddings of the text rows behind the video, without its newlines
            (CDPruner)
    """

    saliency: Saliency | None = None
    keys: Literal["head_mean", "full"] | None = None
    tower: Literal["projector_input"] | None = None
    summary: Literal["pooling_head"] | None = None
    text: Literal["behind"] | None = None
    grid: Literal["patches"] | None = None

    @property
    def attends(self) -> bool:
        """Whether something of the tower's attention is read."""
        return self.saliency is not None or self.keys is not None

    @property
    def sees(self) -> bool:
        """Whether anything of the tower is read."""
        return self.attends or self.projected

    @property
    def projected(self) -> bool:
        """Whether what the projector takes is read."""
        return self.tower is not None or self.grid is not None


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

    def pooled(self, side: int) -> Video:
        """With one token for each square of `side` x `side`; those at the edges may be cut off."""
        return Video(self.frames, -(-self.height // side), -(-self.width // side))


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
        tower: what the projector took, if a strategy asks
        summary: one vector per frame, if a strategy asks
        text: embeddings of the text rows behind the video, if a strategy asks
        members: of a merging stage's result: into which of its tokens each token of its input went,
            -1 if it was dropped. None: a token stands for itself, others were dropped. Where one
            goes into several, the first of them
        room: most tokens of a frame that the LLM's input has rows for; None: as many as `cells`
    """

    features: Float[Tensor, "n d"]
    keys: Float[Tensor, "n k"] | None
    saliency: Float[Tensor, "n"] | None
    frame: Int[Tensor, "n"]
    slot: Int[Tensor, "n"]
    frames: int
    cells: int
    tower: Float[Tensor, "n c"] | None = None
    summary: Float[Tensor, "f w"] | None = None
    text: Float[Tensor, "t d"] | None = None
    members: Int[Tensor, "i"] | None = None
    room: int | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def counts(self) -> Int[Tensor, "f"]:
        """Tokens per frame."""
        return hosted.counts(self.frame, self.frames)

    @property
    def available(self) -> Int[Tensor, "f"]:
        """The most tokens that each frame can keep."""
        if self.room is None:
            return self.counts
        return hosted.each(partial(min, self.room), self.counts)

    def __getitem__(self, rows: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> VisualTokens:
        """The tokens at `rows`, a mask or indices in the wanted order; without `members`.

        No copy when a mask keeps everything.
        """
        if rows.dtype == torch.bool:
            rows = rows.nonzero().squeeze(-1)
            if len(rows) == len(self):
                return self
        parts = {name: getattr(self, name) for name in PER_TOKEN}
        chosen = {
            name: part if part is None else part.index_select(0, rows)
            for name, part in parts.items()
        }
        return replace(self, members=None, **chosen)

    def keep_top(self, scores: Float[Tensor, "f m"], budget: Int[Tensor, "f"]) -> VisualTokens:
        """Of frame f the `budget[f]` tokens with the largest scores (ties: lower index), in order.

        `scores` are by frame, as `ops.by_frame` has them. No copy where everything stays.
        """
        if hosted.total(budget) == len(self):
            return self
        return self[ops.top_rows(scores, self.counts, budget)]

    def dense(self) -> Float[Tensor, "f c d"]:
        """Features on the full grid, zero where no token is (similar to nothing); read only."""
        if hosted.is_grid(self.slot):
            return self.features.unflatten(0, (self.frames, self.cells))
        full = self.features.new_zeros(self.frames, self.cells, self.features.shape[-1])
        return full.index_put_((self.frame, self.slot), self.features)

    def of_cells(self, values: Float[Tensor, "f c"]) -> Float[Tensor, "f m"]:
        """The tokens' own of what every cell has, by frame as `ops.by_frame` has it."""
        if hosted.is_grid(self.slot):
            return values
        own = values.flatten().index_select(0, self.frame * self.cells + self.slot)
        return ops.by_frame(own, self.counts)[0]

    def with_features(
        self, features: Float[Tensor, "n d"], members: Int[Tensor, "i"] | None = None
    ) -> VisualTokens:
        """The same tokens with new features, for methods that merge."""
        return replace(self, features=features.to(self.features.dtype), members=members)


PER_TOKEN = ("features", "keys", "saliency", "frame", "slot", "tower")  # one row for each


class LastRow(NamedTuple):
    """The last prompt token's queries and the keys of visual tokens in some guide layers."""

    queries: Float[Tensor, "l h e"]
    keys: Float[Tensor, "l g n e"]


class QuestionRows(NamedTuple):
    """Queries of the text rows behind the video, and the keys of visual tokens, in guide layers."""

    queries: Float[Tensor, "l r h e"]
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

    @abstractmethod
    def question(self, layers: Sequence[int]) -> QuestionRows:
        """Queries of all text rows behind the last video, and keys as `last_row` has them."""

    @property
    @abstractmethod
    def features(self) -> Float[Tensor, "n d"]:
        """The visual tokens as they enter the guide's language model; no layer runs for them."""

    def pooled(self, side: int) -> Probe:
        """The same prompt; each square of `side` x `side` tokens of a frame is one, their mean.

        A guide reads fewer tokens then: at a side of 2 about a quarter. A side of 1 is the probe
        itself. NotImplementedError where a probe has no other view.
        """
        if side == 1:
            return self
        raise NotImplementedError(f"{type(self).__name__} has no view of pooled frames")
