"""Methods inside the language model, for `operators.py`; see `cases.py`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import careful_inside
import naive_inside
import torch
from cases import SMALL, Case, same_rows, seeded
from cases_video import clip, close_enough

from tokenprune.sequence import Recorded, Survivors
from tokenprune.strategies.dart import DART
from tokenprune.strategies.pyramiddrop import PyramidDrop
from tokenprune.strategies.sparsevlm import SparseVLM
from tokenprune.tokens import TEXT, SequenceView

# LLaVA-OneVision-0.5B
HEADS, GROUPS, HEAD, DEPTH, BEFORE, BEHIND = 14, 2, 64, 24, 14, 50


def inside(frames: int, cells: int) -> Iterator[Case]:
    """The first event of each, attention included, with its defaults."""
    size = BEFORE + frames * cells + BEHIND
    frame = torch.full((size,), TEXT)
    frame[BEFORE:-BEHIND] = torch.arange(frames).repeat_interleave(cells)
    hidden = torch.randn(size, SMALL, generator=seeded(31))
    hidden[BEFORE:-BEHIND] = clip(frames, cells).flatten(0, 1)
    keys = torch.randn(size, GROUPS, HEAD, generator=seeded(32))
    queries = torch.randn(size, HEADS, HEAD, generator=seeded(33))
    inputs = hidden / SMALL**0.5
    reading = Recorded(hidden=hidden, keys=keys, inputs=inputs, queries=queries)

    def view(layer: int) -> SequenceView:
        seen = torch.full((layer,), frames * cells)
        position = torch.arange(size)
        return SequenceView(
            frame, position, frames=frames, layer=layer, depth=DEPTH, seen=seen, reading=reading
        )

    pyramid, dart, sparse = PyramidDrop(), DART(), SparseVLM()
    pivots = dart.visual_pivots, dart.text_pivots
    for name, strategy, inputs_, check in (
        ("PyramidDrop event", pyramid, (queries, keys, frame, pyramid.keep), same_rows),
        ("DART selection", dart, (keys, hidden, frame, dart.keep, pivots), same_rows),
        (
            "SparseVLM event",
            sparse,
            (queries, keys, hidden, inputs, frame, sparse.keep[0]),
            same_survivors,
        ),
    ):
        first = partial(view, strategy.layers(DEPTH)[0])
        yield Case(
            name,
            f"{frames * cells} tokens and {BEFORE + BEHIND} of text",
            tuple(
                partial(getattr(module, strategy.name), *inputs_)
                for module in (naive_inside, careful_inside)
            ),
            partial(pruned, strategy, first),
            check,
        )


def pruned(strategy: Any, first: partial[SequenceView]) -> Any:
    view = first()  # which computes what it is asked for once
    return strategy.prune(view, strategy.quota(view))


def same_survivors(reference: tuple[list[int], torch.Tensor], ours: Survivors) -> None:
    assert ours.hidden is not None
    close_enough(reference, (ours.rows.tolist(), ours.hidden))
