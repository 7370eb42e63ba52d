"""Who resembles whom: pure parts of methods that merge tokens.

Axes as in `ops`, and `c` centres, `k` key width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops
from tokenprune.precision import exact

BLOCK = 256  # rows that are compared at once


@exact
@torch.no_grad()  # it ranks
def to_reference(
    features: Float[Tensor, "f n d"], reference: Sequence[int]
) -> Float[Tensor, "f n"]:
    """Cosine in float32 of every token with the token in the same place of its reference.

    Frames come in windows as long as `reference`, which has one frame of the window for each; the
    last window may be shorter.
    """
    window = len(reference)
    whole = len(features) // window * window
    if 0 < whole < len(features):
        rest = to_reference(features[whole:], reference[: len(features) - whole])
        return torch.cat([to_reference(features[:whole], reference), rest])
    if not whole:
        window = len(features)
    # One Gram matrix per place reads each token once. Windows are few, and each is a strided view:
    # nothing is copied.
    places = [part.float().transpose(0, 1) for part in features.split(window)]
    pairs = torch.stack([torch.bmm(part, part.mT) for part in places]).flatten(2).transpose(1, 2)
    frames, others = range(window), reference[:window]
    each = zip((*frames, *frames, *others), (*others, *frames, *others), strict=True)
    rows = hosted.sent([one * window + other for one, other in each], features.device)
    found = pairs.index_select(1, rows).unflatten(1, (3, window))
    return ops.cosine_of(*found.unbind(1)).flatten(0, 1)


@torch.no_grad()  # it ranks
def to_previous(
    features: Float[Tensor, "n d"], frame: Int[Tensor, "n"], slot: Int[Tensor, "n"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Tokens cell by cell, in time, and in this order the cosine of each with the one before it.

    In float32; -inf of the first of a cell. Frames may lack any of their tokens.
    """
    order = (slot * (frame.amax() + 1) + frame).argsort() if len(frame) else frame
    product, squared = features.new_empty(2, len(order), dtype=torch.float32)
    # block by block, which stays in a processor's cache; each begins with the row before it
    for end in range(BLOCK, len(order) + BLOCK, BLOCK):
        block = slice(max(0, end - BLOCK - 1), end)
        rows = features.index_select(0, order[block]).float()
        squared[block] = rows.norm(dim=-1).square()
        product[block][1:] = (rows[1:] * rows[:-1]).sum(-1)
    similar, cell = torch.full_like(squared, -torch.inf), slot[order]
    alike = ops.cosine_of(product[1:], squared[1:], squared[:-1])
    similar[1:] = alike.masked_fill(cell[1:] != cell[:-1], -torch.inf)
    return order, similar


@exact
def nearest_tokens(
    keys: Float[Tensor, "f m k"],
    valid: Bool[Tensor, "f m"],
    centre: Int[Tensor, "f c"],
    number: int,
) -> Bool[Tensor, "f c m"]:
    """Marks the `number` tokens of its frame nearest by key cosine to each of the places `centre`.

    None is its own neighbour, and small frames have fewer. Ties go to the lower index.
    """
    keys = keys.float()
    norms = keys.norm(dim=-1).clamp(min=1e-12)  # the centre's own norm does not change its ranking
    frame = torch.arange(len(centre), device=centre.device).unsqueeze(-1)
    similarity = torch.bmm(keys[frame, centre], keys.mT).div_(norms.unsqueeze(1))
    if not hosted.all_true(valid):
        similarity.masked_fill_(~valid.unsqueeze(1), -torch.inf)
    similarity.scatter_(2, centre.unsqueeze(2), -torch.inf)
    others = similarity > -torch.inf
    return ops.keep_top(similarity, number) & others if number < keys.shape[1] else others


@exact
def nearest_centre(
    keys: Float[Tensor, "f m k"], centre: Int[Tensor, "f c"], counts: Int[Tensor, "f"]
) -> Int[Tensor, "f m"]:
    """Which of the first `counts[f]` centres each token is nearest to by key cosine."""
    keys, frame = keys.float(), torch.arange(len(keys), device=keys.device).unsqueeze(-1)
    # a token's own norm does not change which centre is nearest
    similarity = torch.bmm(functional.normalize(keys[frame, centre], dim=-1), keys.mT)
    if {*hosted.numbers(counts)} != {centre.shape[1]}:
        absent = torch.arange(centre.shape[1], device=keys.device) >= counts.unsqueeze(-1)
        similarity.masked_fill_(absent.unsqueeze(-1), -torch.inf)
    # along the last axis it is ten times faster
    return similarity.mT.contiguous().argmax(dim=-1)
