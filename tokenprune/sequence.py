"""What a stage inside the language model sees, and what it returns: rows of one sample.

Axes: `l` LLM layers below, `s` rows of the sequence, `p` rows of the prompt that entered layer 0,
`v` visual rows, `w` words behind the video, `r` rows that are asked for, `m` rows that are left,
`b` those of them that go last, `f` frames, `d` LLM width, `h` query heads, `g` key/value heads, `e`
head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.errors import StrategyError
from tokenprune.reading import Heads as Heads
from tokenprune.reading import Reading as Reading
from tokenprune.reading import Recorded as Recorded

TEXT = -1  # the frame of a row that is not visual
OTHER = -2  # where a video is asked about, the frame of rows of another one
BESIDE = -1  # the slot of a row that belongs to a video without being a token of it: a newline


@dataclass(frozen=True)
class SequenceView:
    """What one LLM layer is about to see of one sample: text and visual rows in sequence order.

    Visual rows stand frame after frame, as they entered layer 0. What is not handed in is read from
    `reading` when it is asked for, so that a model computes and keeps only what a stage looks at.

    Args:
        frame: of each row, -1 on text
        position: row in the sequence that entered layer 0
        attention: the last token's, in the layer below, mean over heads, fp32
        frames: how many there are, since a frame may have lost all its rows; 0: as `frame` has it
        slot: cell of each visual row; left out: numbered within each frame
        cells: how many a frame had at first
        layer: the LLM layer (0-based) that the rows are about to enter
        depth: how many LLM layers there are
        place: where each row stands among those that the layer below saw, in ascending order
            unless a stage has moved rows; left out: as they come
        entered: frame of each row of the prompt that entered layer 0, also of those that are gone:
            -1 on text, -2 on tokens of another video; left out: what is no text in this view, up
            to its last row, is of the video, and 0
        seen: how many visual rows each layer below `layer` saw, on the host; left out: not known
        reading: where everything else is read
        rows: indices of the visual rows, ascending; left out: looked up in `frame`
        words: indices of the rows that are `behind` the video; left out: looked up
        later: of some of these that are left out, by name, what makes them once they are asked for
        below: the numbers of `seen`, from which it is made where it is left out
    """

    frame: Int[Tensor, "s"]
    position: Int[Tensor, "s"]
    attention: Float[Tensor, "s"] = field(default_factory=lambda: _UNREAD)
    frames: int = 0
    slot: Int[Tensor, "s"] = field(default_factory=lambda: _UNREAD)
    cells: int = 0
    layer: int = 0
    depth: int = 0
    seen: Int[Tensor, "l"] = field(default_factory=lambda: _UNREAD)
    reading: Reading | None = None
    place: Int[Tensor, "s"] = field(default_factory=lambda: _UNREAD)
    entered: Int[Tensor, "p"] = field(default_factory=lambda: _UNREAD)
    rows: Int[Tensor, "v"] = field(default_factory=lambda: _UNREAD)
    words: Int[Tensor, "w"] = field(default_factory=lambda: _UNREAD)
    later: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    below: Any = ()  # a tuple of whole numbers, of which a checker would try one at random

    def __post_init__(self) -> None:
        _forget_unread(self)
        if self.frames == 0 and len(self.frame):
            object.__setattr__(self, "frames", int(self.frame.max()) + 1)

    def __getattr__(self, name: str) -> Any:
        # only what is not there yet comes here
        if name in vars(self).get("later", ()):
            value = self.later[name]()
        elif name == "attention":
            value = self._read("attention").last()
        elif name == "seen":
            value = hosted.sent(self.below, torch.device("cpu"))
        elif name == "slot":
            value = self._numbered()
        elif name == "place":
            value = torch.arange(len(self.frame), device=self.frame.device)
        elif name == "rows":
            value = ops.marked(self.visual, self.total)
        elif name == "words":
            value = self.behind.nonzero().squeeze(-1)
        elif name == "entered":
            rows = int(self.position.max()) + 1 if len(self.position) else 0
            value = self.frame.new_zeros(rows).index_fill(0, self.position[~self.visual], TEXT)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)
        return value

    def _numbered(self) -> Int[Tensor, "s"]:
        """The place of each visual row among those of its frame; 0 on text."""
        rows, counts = self.rows, self.counts
        before = counts.cumsum(0) - counts
        place = torch.arange(len(rows), device=rows.device)
        return torch.zeros_like(self.frame).scatter(0, rows, place - before[self.frame[rows]])

    @cached_property
    def visual(self) -> Bool[Tensor, "s"]:
        return self.frame != TEXT

    @property
    def history(self) -> tuple[int, ...]:
        """The numbers of `seen`."""
        return hosted.numbers(self.seen) if "seen" in vars(self) else self.below

    @property
    def behind(self) -> Bool[Tensor, "s"]:
        """Text rows behind the last visual row that there ever was: the question.

        Newlines of the video are not, nor are other videos. `words` are the same as indices.
        """
        if "words" in vars(self) or "words" in self.later:
            return torch.zeros_like(self.visual).index_fill(0, self.words, True)
        if "entered" in vars(self):
            row = torch.arange(len(self.entered), device=self.entered.device)
            last = torch.where(self.entered >= 0, row, -1).max()
            words = self.entered[self.position] == TEXT
            return (self.position > last) & words & (self.slot != BESIDE)
        place = torch.arange(len(self.frame), device=self.frame.device)
        last = torch.where(self.visual, place, -1).max()
        return (place > last) & (self.slot != BESIDE)

    @property
    def counts(self) -> Int[Tensor, "f"]:
        """Visual rows per frame."""
        return hosted.counts(self.frame, self.frames)

    @property
    def total(self) -> int:
        """Visual rows that are left."""
        return len(self.rows) if "rows" in vars(self) else hosted.rows(self.frame, self.frames)

    @property
    def everything(self) -> Bool[Tensor, "s"]:
        """All rows, marked; made once, read only."""
        return hosted.whole(self.frame)

    @property
    def available(self) -> Int[Tensor, "f"]:
        """The most rows that each frame can keep: all of them."""
        return self.counts

    @property
    def full(self) -> int:
        """Visual rows that entered layer 0; those of the view where `seen` is not known."""
        return self.history[0] if self.history else self.total

    @property
    def hidden(self) -> Float[Tensor, "s d"]:
        """Hidden states that are about to enter the layer."""
        return self._read("hidden").hidden

    @property
    def normed(self) -> Float[Tensor, "s d"]:
        """The same behind the language model's final norm."""
        return self._read("normed").normed

    @property
    def keys(self) -> Float[Tensor, "s g e"]:
        """Keys of the layer below, after RoPE."""
        return self._read("keys").keys

    @property
    def inputs(self) -> Float[Tensor, "p d"]:
        """What entered layer 0, of all rows of the prompt; `position` counts them."""
        return self._read("inputs").inputs

    def attend(
        self, rows: Int[Tensor, "r"] | Bool[Tensor, "s"], heads: Heads = "mean"
    ) -> Float[Tensor, "s"]:
        """Attention of some rows (indices or a mask) over all rows in the layer below, fp32.

        Each is its causal softmax over the sequence that the layer saw, of which the view's rows
        are shown. `"mean"`: mean over heads and rows; `"max"`: the largest of any head and row.
        """
        index = rows.nonzero().squeeze(-1) if rows.dtype == torch.bool else rows
        return self._read("attention").attend(index, heads)

    def quota_of(self, scores: Float[Tensor, "s"], number: int) -> Int[Tensor, "f"]:
        """How many of each frame are among the `number` visual rows with the largest scores.

        `keep_top` need not look again where this very quota becomes the budget.
        """
        text = self.frame == TEXT
        lowest = torch.finfo(torch.float32).min  # of a visual row, text lies below
        ranked = scores.float().clamp(min=lowest).masked_fill(text, -torch.inf)
        rows = ops.ranking(ranked)[:number]
        return hosted.note_choice(self.tally(rows), self, (scores, text.index_fill(0, rows, True)))

    def tally(self, rows: Int[Tensor, "m"]) -> Int[Tensor, "f"]:
        """How many of each frame are among visual `rows`."""
        empty, frame = self.frame.new_zeros(self.frames), self.frame.index_select(0, rows)
        return hosted.note_total(empty.scatter_add(0, frame, torch.ones_like(rows)), len(rows))

    def keep_top(self, scores: Float[Tensor, "s"], budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        """Marks all text and, of frame f, the `budget[f]` visual rows with the largest scores."""
        of, kept = hosted.choice(budget, self) or (None, None)
        if of is scores and kept is not None:
            return kept
        rows, total = self.rows, hosted.total(budget)
        if total == self.total:
            return torch.ones_like(self.visual)
        frame = self.frame.index_select(0, rows)
        order = ops.ranking_by_tier(frame, scores.index_select(0, rows))
        end = (self.counts.cumsum(0) - self.counts + budget).index_select(0, frame)
        # in this order frames stand one after another, as they do among the rows
        kept = torch.arange(len(rows), device=rows.device) < end
        return (self.frame == TEXT).scatter(0, rows.index_select(0, order), kept)

    def in_order(
        self, rows: Int[Tensor, "m"], last: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "m"]:
        """Ascending `rows` in the order in which they go on.

        Those of them that are listed as `last` follow all other visual rows, as they are listed.
        """
        if last is None and "place" not in vars(self):
            return rows
        place = self.place
        if last is not None:
            place = place * (many := len(last) + 1)  # room behind each
            end = place.index_select(0, self.rows).max()
            every = torch.arange(1, many, device=place.device)
            place = place.index_copy(0, last, end + every)
        return rows[place[rows].argsort()]

    def _read(self, what: str) -> Reading:
        if self.reading is None:
            raise StrategyError(
                f"this view has no {what}: make it with reading=Recorded(...) where no model runs"
            )
        return self.reading


class Survivors(NamedTuple):
    """What a prefill stage leaves, where a mask does not say it.

    Args:
        rows: indices of the rows that live, in the order in which they go on: all text rows in
            their order, and of frame f exactly `budget[f]`. A merged token is carried by one of the
            rows that went into it
        hidden: what they become, in the dtype of `view.hidden`; text rows as they are. None:
            nothing changes
    """

    rows: Int[Tensor, "m"]
    hidden: Float[Tensor, "m d"] | None = None


_UNREAD: Any = object()


def _forget_unread(value: Any) -> None:
    for name, part in [*vars(value).items()]:
        if part is _UNREAD:
            del vars(value)[name]
