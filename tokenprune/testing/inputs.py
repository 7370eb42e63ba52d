"""What strategies are tried on, made from a seed: videos, views, decoding steps, guides.

The shapes are handed in, or drawn by `cases`; the numbers come in three kinds: smooth (no ties in
float32), coarse (few values, so ties everywhere) and sparse (many rows of zeros).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.sequence import TEXT, Heads, Reading, SequenceView
from tokenprune.tokens import PER_TOKEN, LastRow, Probe, QuestionRows, Signals, VisualTokens

Kind = Literal["smooth", "coarse", "sparse"]
KINDS: tuple[Kind, ...] = ("smooth", "coarse", "sparse")


def numbers(generator: torch.Generator, kind: Kind, *shape: int) -> Tensor:
    """Random numbers of one kind."""
    values = torch.randn(*shape, generator=generator)
    if kind == "coarse":
        return values.round()
    if kind == "sparse":
        rows = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=generator)
        return values * (rows < 0.5)
    return values


class Widths(NamedTuple):
    """How wide the tensors of a video are, and how many rows of text stand behind it."""

    features: int = 6
    keys: int = 4
    tower: int = 5
    summary: int = 3
    text: int = 3


EVERYTHING = Signals("received", "full", "projector_input", "pooling_head", "behind")


def visual_tokens(
    generator: torch.Generator,
    frame: Int[Tensor, "n"],
    slot: Int[Tensor, "n"],
    frames: int,
    cells: int,
    kind: Kind = "smooth",
    dtype: torch.dtype = torch.float32,
    widths: Widths = Widths(),  # noqa: B008  a tuple
    signals: Signals = EVERYTHING,
) -> VisualTokens:
    """A video with the given tokens, and with those signals that are asked for and no others.

    As a model has it: saliency in float32 and not negative, all else in `dtype`.
    """
    rows = len(frame)
    keys = numbers(generator, kind, rows, widths.keys).to(dtype)
    saliency = numbers(generator, kind, rows).abs()
    features = numbers(generator, kind, rows, widths.features).to(dtype)
    tower = numbers(generator, kind, rows, widths.tower).to(dtype)
    summary = numbers(generator, kind, frames, widths.summary).to(dtype)
    text = numbers(generator, kind, widths.text, widths.features).to(dtype)
    return VisualTokens(
        features=features,
        keys=keys if signals.keys else None,
        saliency=saliency if signals.saliency else None,
        frame=frame,
        slot=slot,
        frames=frames,
        cells=cells,
        tower=tower if signals.tower else None,
        summary=summary if signals.summary else None,
        text=text if signals.text else None,
        # patches are more than the tokens that the language model would get of them
        room=max(1, cells // 2) if signals.grid else None,
    )


def disturbed(tokens: VisualTokens, frame: int) -> VisualTokens:
    """The same tokens with other contents in one frame."""
    inside = tokens.frame == frame
    changed: dict[str, Tensor] = {}
    for name in PER_TOKEN:
        values = getattr(tokens, name)
        if name in ("frame", "slot") or values is None:
            continue
        changed[name] = values.clone()
        own = values[inside].flip(0)
        changed[name][inside] = own + 1 if name == "saliency" else 1 - 2 * own
    if tokens.summary is not None:
        changed["summary"] = tokens.summary.clone()
        changed["summary"][frame] = 1 - 2 * tokens.summary[frame]
    return replace(tokens, **changed)


@dataclass(frozen=True)
class Table(Reading):
    """A reading whose parts and attention are written out.

    Args:
        states: of each row, what is about to enter the layer `[s d]`
        below: keys of the layer below `[s g e]`
        prompt: what entered layer 0 `[p d]`
        weights: attention of every row of the layer below over the view's `[h s s]`
    """

    states: Float[Tensor, "s d"]
    below: Float[Tensor, "s g e"]
    prompt: Float[Tensor, "p d"]
    weights: Float[Tensor, "h s s"]

    @property
    def hidden(self) -> Float[Tensor, "s d"]:
        return self.states

    @property
    def normed(self) -> Float[Tensor, "s d"]:
        states = self.states.float()
        return (states / (states.square().mean(-1, keepdim=True) + 1e-6).sqrt()).to(
            self.states.dtype
        )

    @property
    def keys(self) -> Float[Tensor, "s g e"]:
        return self.below

    @property
    def inputs(self) -> Float[Tensor, "p d"]:
        return self.prompt

    def last(self) -> Float[Tensor, "s"]:
        return self.weights[:, -1].mean(0)

    def attend(self, rows: Int[Tensor, "r"], heads: Heads = "mean") -> Float[Tensor, "s"]:
        chosen = self.weights[:, rows]
        if not chosen.numel():
            return self.weights.new_zeros(self.weights.shape[-1])
        return chosen.mean((0, 1)) if heads == "mean" else chosen.amax((0, 1))


class Place(NamedTuple):
    """Before which LLM layer of how many a view is, and how many visual rows each below saw."""

    layer: int
    depth: int
    seen: tuple[int, ...] = ()


def sequence_view(
    generator: torch.Generator,
    frame: Int[Tensor, "s"],
    slot: Int[Tensor, "s"],
    frames: int,
    cells: int,
    place: Place,
    kind: Kind = "smooth",
    dtype: torch.dtype = torch.float32,
    lost: int = 0,
    width: int = 6,
) -> SequenceView:
    """A prompt with the given rows, of which `lost` went before, and a `Table` to read it."""
    length, groups, heads = len(frame), 2, 4
    prompt = length + lost
    kept = torch.randperm(prompt, generator=generator)[:length].sort().values
    # the prompt ends with the view's last row
    position = torch.cat([kept[:-1], kept.new_tensor([prompt - 1])]) if lost else kept
    logits = numbers(generator, kind, heads * length, length).view(heads, length, length)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    table = Table(
        states=numbers(generator, kind, length, width).to(dtype),
        below=numbers(generator, kind, length, groups * 4).view(length, groups, 4).to(dtype),
        prompt=numbers(generator, kind, prompt, width).to(dtype),
        weights=logits.masked_fill(later, -torch.inf).softmax(-1),
    )
    return SequenceView(
        frame,
        position,
        frames=frames,
        slot=slot,
        cells=cells,
        layer=place.layer,
        depth=place.depth,
        seen=torch.tensor(place.seen, dtype=torch.long),
        reading=table,
    )


def disturbed_view(view: SequenceView, frame: int) -> SequenceView:
    """The same rows with other contents, and other attention given to them, in one frame."""
    inside = view.frame == frame
    attention = torch.where(inside, 1 - view.attention, view.attention)
    table = view.reading
    if not isinstance(table, Table):
        return replace(view, attention=attention)
    states, below, prompt = (part.clone() for part in (table.states, table.below, table.prompt))
    states[inside], below[inside] = 1 - 2 * states[inside].flip(0), 1 - 2 * below[inside].flip(0)
    rows = view.position[inside]
    prompt[rows] = 1 - 2 * prompt[rows].flip(0)
    weights = torch.where(inside, 1 - table.weights, table.weights)
    return replace(view, attention=attention, reading=Table(states, below, prompt, weights))


def later(view: SequenceView, step: int, attention: Float[Tensor, "t"]) -> SequenceView:
    """The view `step` generated words later, with other attention."""
    text = torch.full((step,), TEXT, device=view.frame.device)
    position = torch.arange(len(view.frame) + step, device=view.frame.device)
    return SequenceView(torch.cat([view.frame, text]), position, attention, view.frames)


@dataclass(frozen=True)
class TableProbe(Probe):
    """A probe that holds the rows of every layer.

    Its question is the last row alone unless `asked`, its features the keys of layer 0 unless
    `states` are given.
    """

    rows: LastRow
    frame: Int[Tensor, "n"]
    frames: int
    asked: Float[Tensor, "l r h e"] | None = None
    states: Float[Tensor, "n d"] | None = None

    @property
    def depth(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.rows.queries)

    def last_row(self, layers: Sequence[int]) -> LastRow:
        return LastRow(self.rows.queries[list(layers)], self.rows.keys[list(layers)])

    def question(self, layers: Sequence[int]) -> QuestionRows:
        asked = self.rows.queries.unsqueeze(1) if self.asked is None else self.asked
        return QuestionRows(asked[list(layers)], self.rows.keys[list(layers)])

    @property
    def features(self) -> Float[Tensor, "n d"]:
        return self.rows.keys[0].transpose(0, 1).flatten(1) if self.states is None else self.states

    def pooled(self, side: int) -> TableProbe:
        """Without a grid, `side` x `side` tokens of a frame in their order are a square."""
        counts = torch.bincount(self.frame, minlength=self.frames)
        place = torch.arange(len(self.frame), device=self.frame.device)
        own = place - (counts.cumsum(0) - counts)[self.frame]
        frame, square = torch.stack([self.frame, own // side**2], 1).unique(
            dim=0, return_inverse=True
        )
        return replace(
            self,
            rows=LastRow(self.rows.queries, _means(self.rows.keys, square, 2)),
            frame=frame[:, 0],
            states=None if self.states is None else _means(self.states, square, 0),
        )


def _means(values: Tensor, group: Int[Tensor, "n"], dim: int) -> Tensor:
    """Of each group along one axis."""
    shape = [*values.shape]
    shape[dim] = 1 + int(group.max())
    sums = values.new_zeros(shape).index_add(dim, group, values)
    sizes = [1] * values.ndim
    sizes[dim] = shape[dim]
    return sums / torch.bincount(group).view(sizes)


def table_probe(
    generator: torch.Generator,
    frames: int,
    tokens: int,
    depth: int = 5,
    groups: int = 2,
    shared: int = 2,
    width: int = 4,
    device: str = "cpu",
) -> TableProbe:
    """A guide over frames of equal size, whose query heads share key heads."""
    queries = torch.randn(depth, groups * shared, width, generator=generator)
    keys = torch.randn(depth, groups, frames * tokens, width, generator=generator)
    frame = torch.arange(frames, device=device).repeat_interleave(tokens)
    before = torch.randn(depth, 2, groups * shared, width, generator=generator)
    asked = torch.cat([before, queries.unsqueeze(1)], dim=1).to(device)
    states = torch.randn(frames * tokens, groups * width, generator=generator).to(device)
    return TableProbe(LastRow(queries.to(device), keys.to(device)), frame, frames, asked, states)
