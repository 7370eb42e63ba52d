"""What tells on the device whether a stage at the input has kept the rules: numbers, not yet read.

Axes: `n` tokens, `f` frames, `k` rules.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.tokens import VisualTokens


@torch.no_grad()
def telling(tokens: VisualTokens, left: list[int], after: VisualTokens) -> list[Tensor]:
    """Least and largest of the features that are left, of slots, and of members if there are any;
    whether a token is in another frame than its place among those `left` per frame says; and
    numbers that are each as many as tokens are left where all is right, see `_inside`.
    """
    frames = torch.from_numpy(np.arange(len(left)).repeat(left))
    expected = hosted.moved(frames, after.frame.device)
    ends = [
        part.aminmax() for part in (after.features, after.slot, after.members) if part is not None
    ]
    moved = (after.frame != expected).any()
    return [*(end for pair in ends for end in pair), moved, *_inside(tokens, after)]


def _inside(tokens: VisualTokens, after: VisualTokens) -> list[Tensor]:
    """How many cells the tokens are in: all, and of the input's. With members one number tells
    both: how many tokens are in a cell whose token went into them.
    """
    cells = tokens.frames * tokens.cells
    every, here = hosted.is_grid(tokens.slot), _cell(after).clamp_(0, cells - 1)
    if after.members is not None:
        went = after.members.long()
        if not every:  # nothing has come from other cells
            went = went.new_full((cells,), -1).index_copy_(0, _cell(tokens), went)
        row = torch.arange(len(after), device=here.device)
        return [(went.index_select(0, here) == row).sum()]
    marked = torch.zeros(cells, dtype=torch.int32, device=here.device).index_fill_(0, here, 1)
    if every:
        return [marked.sum()]
    return [marked.sum(), marked.index_select(0, _cell(tokens)).sum()]


def _cell(tokens: VisualTokens) -> Int[Tensor, "n"]:
    """The place of each token among the cells of all frames."""
    return torch.add(tokens.slot, tokens.frame, alpha=tokens.cells)


@torch.no_grad()
def left(after: VisualTokens) -> list[int] | None:
    """Tokens per frame: as the host knows them, else by one small read. None where they cannot be
    those of tokens that keep the rules, which the device may then be asked about.
    """
    known = hosted.known_counts(after.frame, after.frames)
    if known is None:
        frames = torch.arange(after.frames + 1, device=after.frame.device)
        ends = torch.searchsorted(after.frame.long().contiguous(), frames).tolist()
        known = [end - first for first, end in pairwise(ends)]
    fits = sum(known) == len(after) and all(0 <= number <= after.cells for number in known)
    return [*known] if fits else None


@torch.no_grad()
def of(
    tokens: VisualTokens, after: VisualTokens, budget: Int[Tensor, "f"]
) -> tuple[Bool[Tensor, "k"], list[Int[Tensor, "f"]]]:
    """Which rules are broken, and tokens per frame before, asked for and after.

    All of it is still on the device.
    """
    places, frame, slot = tokens.frames * tokens.cells, after.frame.long(), after.slot.long()
    outside = (frame < 0) | (frame >= tokens.frames) | (slot < 0) | (slot >= tokens.cells)
    # one place more, for what has none
    here = torch.where(outside, places, frame * tokens.cells + slot)
    empty = here.new_zeros(places + 1)
    used = empty.index_add(0, here, torch.ones_like(here))[:-1]
    known = empty.index_fill(0, tokens.frame * tokens.cells + tokens.slot, 1)[:-1]
    strange = outside.any() | (used > known).any()  # not one of the input's, or again
    infinite = ~ends(after.features).isfinite().all()
    broken = [(frame.diff() < 0).any(), strange, infinite, misnamed(tokens, after, here)]
    before, left = (marked.view(tokens.frames, -1).sum(1) for marked in (known, used))
    return torch.stack(broken), [before, budget, left]


def misnamed(tokens: VisualTokens, after: VisualTokens, here: Int[Tensor, "n"]) -> Bool[Tensor, ""]:
    """Whether members are not rows of the result, or a row does not hold its own slot's token."""
    if after.members is None or not len(after):
        return here.new_zeros((), dtype=torch.bool)
    members, address = after.members.long(), tokens.frame * tokens.cells + tokens.slot
    outside = ((members < -1) | (members >= len(after))).any()
    # the row that stands at each token's own address; none: -1
    row = here.new_full((tokens.frames * tokens.cells + 1,), -1)
    row[here] = torch.arange(len(after), device=here.device)
    own = row[address]
    return outside | ((own >= 0) & (own != members)).any()


def ends(features: Tensor) -> Tensor:
    """Minimum and maximum carry a nan along, in a tenth of the time that isfinite takes."""
    if not features.numel():
        return features.new_zeros(1)
    return torch.stack(features.aminmax())
