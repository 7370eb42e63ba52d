"""Who resembles whom: pure parts of methods that merge tokens.

Axes as in `ops`, and `c` centres, `k` key width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted, ops
from tokenprune.precision import exact

# rows that are compared at once
BLOCK = 256  # which a processor's cache holds
BLOCK_OF_ACCELERATOR = 1 << 14


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
    features: Float[Tensor, "n d"], cell: Int[Tensor, "n"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Tokens cell by cell, in time, and in this order the cosine of each with the one before it.

    They come in time, and frames may lack any of theirs. In float32; -inf of the first of a cell,
    0 where a vector is all zero. Beside the features it holds two copies of `BLOCK` of them.
    """
    cell, order = cell.sort(stable=True)
    if not len(order):
        return order, features.new_empty(0, dtype=torch.float32)
    size = BLOCK if features.device.type == "cpu" else BLOCK_OF_ACCELERATOR
    blocks = [order]
    if len(order) > size:  # each begins with the row before it
        blocks = [order[max(0, first - 1) : first + size] for first in range(0, len(order), size)]
    similar = _in_turn(features.index_select(0, blocks[0]))
    if len(blocks) > 1:
        rest = [_in_turn(features.index_select(0, block))[1:] for block in blocks[1:]]
        similar = torch.cat([similar, *rest])
    first = cell != functional.pad(cell, (1, -1))
    return order, similar.masked_fill_(first, -torch.inf)


def _in_turn(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """The cosine of each row with the one before it, -inf of the first; `rows` may be written."""
    unit = rows.float()
    unit.div_(unit.norm(dim=-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny))
    return functional.pad((unit[1:] * unit[:-1]).sum(-1), (1, 0), value=-torch.inf)


class Runs(NamedTuple):
    """Runs of tokens, of which each is like the one before it: `order` has them cell by cell.

    first: which of the tokens, in this order, are the first of a run
    start: where these stand
    begin: which tokens they are
    rows: the same, ascending
    turn: which of the runs, in this order, each of `rows` begins
    """

    order: Int[Tensor, "n"]
    first: Bool[Tensor, "n"]
    start: Int[Tensor, "m"]
    begin: Int[Tensor, "m"]
    rows: Int[Tensor, "m"]
    turn: Int[Tensor, "m"]

    @classmethod
    def of(cls, order: Int[Tensor, "n"], first: Bool[Tensor, "n"], number: int) -> Runs:
        start = ops.marked(first, number)
        begin = order.index_select(0, start)
        rows, turn = begin.sort()
        return cls(order, first, start, begin, hosted.note_ascending(rows), turn)

    def means(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
        """The plain mean of each run."""
        runs = functional.embedding_bag(self.order, features.float(), self.start, mode="mean")
        return runs.index_select(0, self.turn)

    @property
    def members(self) -> Int[Tensor, "n"]:
        """Into which of `rows` each token goes."""
        of = self.turn.argsort().index_select(0, self.first.cumsum(0) - 1)
        return torch.empty_like(of).scatter(0, self.order, of)


def begun(
    similar: Float[Tensor, "n"], like: float, least: int, tally: Callable[[Tensor], Tensor]
) -> tuple[Bool[Tensor, "n"], Int[Tensor, "f"]]:
    """Which tokens are the first of a run, and their `tally`, which is read at once.

    They are those that are not like the one before, and of the others as many of the least similar
    as make it `least`.
    """
    first = ~(similar >= like)
    number = tally(first)
    if sum(hosted.numbers(number)) < least:
        first = ~ops.keep_top(similar, max(0, len(similar) - least))
        number = tally(first)
    return first, number


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
