"""What tells on the device whether a vision stage has kept the rules: numbers that nobody has read.

Axes: `n` tokens, `f` frames, `k` rules.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.tokens import VisualTokens


@torch.no_grad()
def telling(tokens: VisualTokens, asked: list[int], after: VisualTokens) -> list[Tensor]:
    """The least and the largest of the features that are left, whether a token is in another frame
    than its place in the budget says, and how many cells they are in: all, and of the input's.
    """
    frames = torch.from_numpy(np.arange(len(asked)).repeat(asked))
    expected = hosted.moved(frames, after.frame.device)
    marked = _marked(after)
    numbers = [*after.features.aminmax(), (after.frame != expected).any(), marked.sum()]
    if len(tokens) < tokens.frames * tokens.cells:
        numbers.append((_marked(tokens) * marked).sum())
    return numbers


def _marked(tokens: VisualTokens) -> Int[Tensor, "c"]:
    """1 in the cells of all frames that hold a token."""
    places = tokens.frames * tokens.cells
    marked = torch.zeros(places, dtype=torch.int32, device=tokens.frame.device)
    return marked.index_fill_(0, tokens.frame * tokens.cells + tokens.slot, 1)


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
