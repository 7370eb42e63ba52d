"""Hypothesis generators of everything that flows through a pipeline, and the generator behind the
golden vectors.

Shapes, budgets and options are drawn; the numbers inside tensors come from a drawn seed, in three
kinds: smooth (tie-free in float32), coarse (few values, so ties everywhere) and sparse (many
all-zero rows).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from hypothesis import reject
from hypothesis import strategies as st
from torch import Tensor

from tokenprune.errors import TokenpruneError
from tokenprune.strategy import PrefillStage, Strategy
from tokenprune.testing.equal import moved
from tokenprune.testing.inputs import (
    KINDS,
    Widths,
    sequence_view,
    table_probe,
)
from tokenprune.testing.inputs import TableProbe as TableProbe
from tokenprune.testing.inputs import later as later
from tokenprune.testing.inputs import numbers as numbers
from tokenprune.testing.inputs import visual_tokens as made_tokens
from tokenprune.testing.strategy import events, place_of
from tokenprune.tokens import TEXT, SequenceView, VisualTokens

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
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


@contextmanager
def checked() -> Iterator[None]:
    """Hides from hypothesis that checks of annotations look at random entries of sequences."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


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
    widths = Widths(*(draw(st.integers(1, most)) for most in (8, 6, 6, 4, 4)))
    device = draw(st.sampled_from(DEVICES))
    with checked():
        tokens = made_tokens(generator, frame, slot, frames, cells, kind, dtype, widths)
        return moved(tokens, device)


@st.composite
def sequence_views(
    draw: st.DrawFn, frames: int | None = None, stage: PrefillStage | None = None
) -> SequenceView:
    """Prompts of text, video and text, where frames may have lost any number of rows.

    Before one of the layers of `stage`, whose layers before it may have taken rows, too.
    """
    frames = frames or draw(st.integers(1, 10))
    frame, slot = draw(frame_slots(frames, cells := draw(st.integers(1, 9))))
    before, after = (torch.full((draw(st.integers(least, 4)),), TEXT) for least in (0, 1))
    with checked():
        known = [(6, (2,))] if stage is None else events(stage)
    depth, layers = draw(st.sampled_from(known))
    which, lost = draw(st.integers(0, len(layers) - 1)), draw(st.sampled_from([0.0, 0.4, 2.0]))
    generator, kind = torch.Generator().manual_seed(draw(seeds)), draw(st.sampled_from(KINDS))
    dtype, device = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(DEVICES))
    with checked():
        place = place_of(layers, which, depth, len(frame), lost)
        view = sequence_view(
            generator,
            torch.cat([before, frame, after]),
            torch.cat([before * 0, slot, after * 0]),
            frames,
            cells,
            place,
            kind,
            dtype,
            lost=place.seen[0] - len(frame),
        )
        return moved(view, device)


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


@st.composite
def probes(draw: st.DrawFn, frames: int) -> TableProbe:
    """Guides of 1 to 7 layers with grouped heads over frames of equal size."""
    tokens = draw(st.integers(1, 6))
    depth, groups, shared, width = (draw(st.integers(1, most)) for most in (7, 3, 3, 8))
    generator, device = torch.Generator().manual_seed(draw(seeds)), draw(st.sampled_from(DEVICES))
    with checked():
        return table_probe(generator, frames, tokens, depth, groups, shared, width, device)


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
        with checked():
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
