"""Hypothesis generators of everything that flows through a pipeline, and the generator behind the
golden vectors.

Shapes, budgets and options are drawn; the numbers inside tensors come from a drawn seed, in three
kinds: smooth (tie-free in float32), coarse (few values, so ties everywhere) and sparse (many
all-zero rows).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from hypothesis import reject
from hypothesis import strategies as st
from torch import Tensor

from tokenprune.errors import TokenpruneError
from tokenprune.strategy import Strategy
from tokenprune.tokens import TEXT, LastRow, Probe, SequenceView, VisualTokens

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
KINDS = ["smooth", "coarse", "sparse"]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

seeds = st.integers(0, 2**31 - 1)
fractions = st.sampled_from([0.0, 1.0, 0.5, 0.3, 0.7, 0.55]) | st.floats(0.0, 1.0)


@cache
def draws(seed: int, *shape: int) -> Tensor:
    """The reproducible inputs of the golden files and the method texts: a linear congruential
    generator in [-1, 1).
    """
    values = np.empty(int(np.prod(shape)), dtype=np.float32)
    for place in range(len(values)):
        seed = (1664525 * seed + 1013904223) % 2**32
        values[place] = (seed >> 8) / 2**23 - 1
    return torch.from_numpy(values).reshape(shape)


def numbers(generator: torch.Generator, kind: str, *shape: int) -> Tensor:
    values = torch.randn(*shape, generator=generator)
    if kind == "coarse":
        return values.round()
    if kind == "sparse":
        return values * (torch.rand(shape[0], *[1] * (len(shape) - 1), generator=generator) < 0.5)
    return values


def video(
    features: Tensor, cells: int, saliency: Tensor | None = None, keys: Tensor | None = None
) -> VisualTokens:
    """An uncompressed video from frame-major rows."""
    frames = len(features) // cells
    frame, slot = torch.arange(frames).repeat_interleave(cells), torch.arange(cells).repeat(frames)
    return VisualTokens(features, keys, saliency, frame, slot, frames, cells)


def blank(frames: int, cells: int) -> VisualTokens:
    """A video of nothing, for what depends on counts alone."""
    return video(torch.zeros(frames * cells, 1), cells)


@st.composite
def frame_slots(draw: st.DrawFn, frames: int, cells: int) -> tuple[Tensor, Tensor]:
    """Frame and slot of every token: a full grid, or frames that lost any number of tokens, some in
    another order.
    """
    if draw(st.booleans()):
        slots = [list(range(cells))] * frames
    else:
        kept = st.lists(st.integers(0, cells - 1), unique=True, max_size=cells)
        slots = [draw(kept if draw(st.booleans()) else kept.map(sorted)) for _ in range(frames)]
    counts = torch.tensor([len(frame) for frame in slots])
    flat = torch.tensor([slot for frame in slots for slot in frame], dtype=torch.long)
    return torch.arange(frames).repeat_interleave(counts), flat


@st.composite
def visual_tokens(
    draw: st.DrawFn, dtype: torch.dtype = torch.float32, frames: int | None = None
) -> VisualTokens:
    """Videos of 1 to 10 frames, odd, tiny, ragged, with empty frames, on every device there is."""
    frames = frames or draw(st.integers(1, 10))
    cells = draw(st.sampled_from([1, 2, 7, 36]) | st.integers(1, 12))
    frame, slot = draw(frame_slots(frames, cells))
    generator, kind = torch.Generator().manual_seed(draw(seeds)), draw(st.sampled_from(KINDS))
    device, width = draw(st.sampled_from(DEVICES)), draw(st.integers(1, 8))
    return VisualTokens(
        features=numbers(generator, kind, len(frame), width).to(device, dtype),
        keys=numbers(generator, kind, len(frame), draw(st.integers(1, 6))).to(device, dtype),
        saliency=numbers(generator, kind, len(frame)).abs().to(device),
        frame=frame.to(device),
        slot=slot.to(device),
        frames=frames,
        cells=cells,
        tower=numbers(generator, kind, len(frame), draw(st.integers(1, 6))).to(device, dtype),
        text=numbers(generator, kind, draw(st.integers(0, 3)), width).to(device, dtype),
    )


@st.composite
def sequence_views(draw: st.DrawFn, frames: int | None = None) -> SequenceView:
    """Prompts of text, video and text, where frames may have lost any number of rows."""
    frames = frames or draw(st.integers(1, 10))
    counts = torch.tensor(draw(st.lists(st.integers(0, 9), min_size=frames, max_size=frames)))
    before, after = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    visual = torch.arange(frames).repeat_interleave(counts)
    frame = torch.cat([torch.full((before,), TEXT), visual, torch.full((after,), TEXT)])
    generator = torch.Generator().manual_seed(draw(seeds))
    scores = numbers(generator, draw(st.sampled_from(KINDS)), len(frame)).softmax(0)
    device = draw(st.sampled_from(DEVICES))
    return SequenceView(
        frame.to(device), torch.arange(len(frame), device=device), scores.to(device), frames
    )


def later(view: SequenceView, step: int, attention: Tensor) -> SequenceView:
    """The view `step` generated tokens later, with other attention."""
    text = torch.full((step,), TEXT, device=view.frame.device)
    position = torch.arange(len(view.frame) + step, device=view.frame.device)
    return SequenceView(torch.cat([view.frame, text]), position, attention, view.frames)


@st.composite
def decodings(draw: st.DrawFn) -> list[SequenceView]:
    """Up to six decoding steps of one sample, whose attention sometimes jumps, sometimes drifts."""
    first = draw(sequence_views())
    generator = torch.Generator().manual_seed(draw(seeds))
    logits = torch.randn(len(first.frame), generator=generator)
    steps = []
    for step in range(draw(st.integers(1, 6))):
        logits = torch.cat([logits, torch.zeros(1)]) if step else logits
        logits = logits + draw(st.sampled_from([0.0, 0.05, 2.0])) * torch.randn(
            len(logits), generator=generator
        )
        steps.append(later(first, step, logits.softmax(0).to(first.frame.device)))
    return steps


@st.composite
def budgets(draw: st.DrawFn, counts: Tensor) -> Tensor:
    """Any budget the frames can hold."""
    return torch.tensor([draw(st.integers(0, n)) for n in counts.tolist()], device=counts.device)


@dataclass(frozen=True)
class TableProbe(Probe):
    """A probe that holds the rows of every layer."""

    rows: LastRow
    frame: Tensor
    frames: int

    @property
    def depth(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.rows.queries)

    def last_row(self, layers: Sequence[int]) -> LastRow:
        return LastRow(self.rows.queries[list(layers)], self.rows.keys[list(layers)])


@st.composite
def probes(draw: st.DrawFn, frames: int) -> TableProbe:
    """Guides of 1 to 7 layers with grouped heads over frames of equal size."""
    tokens = draw(st.integers(1, 6))
    depth, groups, shared, width = (draw(st.integers(1, most)) for most in (7, 3, 3, 8))
    generator, device = torch.Generator().manual_seed(draw(seeds)), draw(st.sampled_from(DEVICES))
    rows = LastRow(
        torch.randn(depth, groups * shared, width, generator=generator).to(device),
        torch.randn(depth, groups, frames * tokens, width, generator=generator).to(device),
    )
    return TableProbe(rows, torch.arange(frames, device=device).repeat_interleave(tokens), frames)


def _values(hint: Any) -> st.SearchStrategy[Any] | None:
    if hint is bool:
        return st.booleans()
    if hint is float:
        return fractions
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) in (Union, UnionType) and set(get_args(hint)) == {float, type(None)}:
        return st.none() | fractions
    return None


@st.composite
def configured(draw: st.DrawFn, kind: type[Strategy]) -> Strategy:
    """A strategy with fractions anywhere in [0, 1] and switches in any position; integers stay as
    they are. Options that the strategy refuses are drawn anew.
    """
    hints = get_type_hints(kind)
    choices = {field.name: _values(hints[field.name]) for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    options = {name: draw(values) for name, values in choices.items() if values is not None}
    try:
        return kind(**options)
    except TokenpruneError:
        reject()


def decode_attention(case: dict[str, Any], step: int) -> Tensor:
    """The attention row of one decoding step, as the file's `attention` line says."""
    heads, length = case["heads"], case["S"] + step
    base = torch.zeros(heads, length)
    base[:, : case["S"]] = draws(case["seed"], heads, case["S"])
    noise = draws(case["seed"] + 1000 + step, heads, length)
    return (4 * base + 4 * [0, 0.05, 0.1, 1, 0.05][step % 5] * noise).softmax(-1).mean(0)
