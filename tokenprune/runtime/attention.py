"""What a tap reads of one attention module's queries and keys: only the rows that are needed, in
fp32, and no attention map is ever materialised.

Axes: `b` batch, `h` query heads, `g` key/value heads, `s` query rows, `r` some of them, `t` key
rows, `e` head width; `s` are columns of width `d` and `n` some of them in `at`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.errors import UnsupportedGenerationError
from tokenprune.precision import exact
from tokenprune.runtime.table import Array, send

Tap = Callable[[Tensor, Tensor, float], None]  # queries [b h s e], keys [b g t e], softmax scale

# attention weights that `received` holds at once
BLOCK_OF_CPU = 1 << 19  # what a core's cache holds
BLOCK_OF_ACCELERATOR = 1 << 24  # enough to keep it busy


def both(first: Tap | None, second: Tap) -> Tap:
    """One tap, and another behind it."""
    if first is None:
        return second

    def tap(query: Tensor, key: Tensor, scale: float) -> None:
        first(query, key, scale)
        second(query, key, scale)

    return tap


@exact
def last_row(
    query: Float[Tensor, "b h e"],
    key: Float[Tensor, "b g t e"],
    scale: float,
    valid: Bool[Tensor, "b t"] | None,
) -> Float[Tensor, "b t"]:
    """Attention of one query per sample over all `valid` keys: fp32, mean over query heads.

    Equals that row of the causally masked softmax when the query is the last one.
    """
    together = query.shape[1] // key.shape[1]  # query heads that share a key head
    grouped = query.float().reshape(-1, together, query.shape[-1])
    scores = torch.bmm(grouped, key.float().flatten(0, 1).mT).mul_(scale)
    scores = scores.unflatten(0, key.shape[:2])
    if valid is not None:
        # layers may live on different devices; layouts stay on the first
        scores = scores.masked_fill(~valid[:, None, None].to(key.device), -torch.inf)
    return scores.softmax(dim=-1).mean(dim=(1, 2))


@exact
@torch.no_grad()  # it ranks, and sums are written in place
def received(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b h t e"], scale: float
) -> Float[Tensor, "b t"]:
    """Attention each key receives, mean over heads and query rows, in fp32.

    Only the column sums of a block of samples, heads and rows outlive it, so that memory does not
    grow with the square of the sequence.
    """
    (samples, heads, rows, _), width = query.shape, key.shape[2]
    most = BLOCK_OF_CPU if query.device.type == "cpu" else BLOCK_OF_ACCELERATOR
    together = max(1, most // (rows * width))  # whole heads per block
    step = min(rows, max(1, most // width))
    queries, keys = (_pieces(part.flatten(0, 1), together, 0) for part in (query, key))
    columns: list[Tensor] = []
    for some, turned in zip(queries, keys, strict=True):
        scaled = turned.float().mT * scale
        blocks = _pieces(some, step, 1)
        parts = (torch.bmm(part.float(), scaled).softmax(-1).sum(1) for part in blocks)
        columns.append(reduce(torch.add, parts))
    whole = columns[0] if len(columns) == 1 else torch.cat(columns)
    return whole.unflatten(0, (samples, heads)).mean(1) / rows


def _pieces(states: Tensor, size: int, dim: int) -> Sequence[Tensor]:
    """Views of at most `size`."""
    return states.split(size, dim) if size < states.shape[dim] else (states,)


@exact
def mean_query(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b h t e"]
) -> Float[Tensor, "b t"]:
    """Softmax of the mean query over all keys, one head over the full width.

    PruMerge's attention, and AIM's stand-in for that of a CLS token.
    """
    mean, flat = query.float().mean(2).flatten(1), side_by_side(key).float()
    scores = torch.bmm(flat, mean.unsqueeze(-1)).squeeze(-1) * flat.shape[-1] ** -0.5
    return scores.softmax(-1)


@exact
def mean_query_of_heads(
    query: Float[Tensor, "b h s e"], key: Float[Tensor, "b h t e"], scale: float
) -> Float[Tensor, "b t"]:
    """Softmax of the mean query over all keys in each head, mean over heads (FastVID)."""
    return last_row(query.float().mean(2), key, scale, None)


def side_by_side(key: Float[Tensor, "b h s e"]) -> Float[Tensor, "b s k"]:
    """Keys of all heads as one vector."""
    return key.transpose(1, 2).flatten(2)


def rows_at(states: Float[Tensor, "b h s e"], row: Sequence[int]) -> Float[Tensor, "b h e"]:
    """One row of every sample."""
    if len({*row}) == 1:
        return states[:, :, row[0]]
    samples, rows = torch.tensor([[*range(len(row))], [*row]]).to(states.device, non_blocking=True)
    return states[samples, :, rows]


def at(states: Float[Tensor, "*b s d"], columns: Int[Array, "n"]) -> Float[Tensor, "*b n d"]:
    """What ascending columns hold; a view where they stand side by side."""
    if len(columns) and columns[-1] - columns[0] == len(columns) - 1:
        return states.narrow(-2, int(columns[0]), len(columns))
    return states.index_select(-2, send(columns, states.device))


def flat_mask(mask: Any) -> Tensor | None:
    """The 2-D mask that `mask` is, or None; UnsupportedGenerationError for any other kind."""
    if mask is None or (isinstance(mask, Tensor) and mask.ndim == 2):
        return mask
    raise UnsupportedGenerationError(
        "token selection needs the 2-D attention mask of the prompt, or none: not a 4-D one"
    )
