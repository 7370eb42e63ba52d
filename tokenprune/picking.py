"""Picking from a pool where frames close: pure parts of methods in which all frames compete.

Axes as in `ops`, and `g` groups that are picked from side by side: frames, or one whole video.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, ragged
from tokenprune.precision import exact

BLOCK = 256  # tokens that are compared with each other at once
STEPS = 32  # of them that are picked before all others hear of it
PART = 512  # tokens that are compared with others at once, in search of the loneliest
CANDIDATES = 16  # for it, whose neighbours are all looked at
ROUNDING = 1e-6  # two ways of summing up a cosine differ by less

# scores of all tokens of a group, the place that was picked, and how many were before it -> scores
Update = Callable[[Float[Tensor, "g m"], Int[Tensor, "g"], int], Float[Tensor, "g m"]]


def unit(features: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """The vectors in float32 with length 1; what is all zero stays so."""
    return features / _lengths(features, keepdim=True)


@exact
def directed(features: Float[Tensor, "*b d"], direction: Float[Tensor, "d"]) -> Float[Tensor, "*b"]:
    """The product of `unit(features)` with `direction`, without writing them out."""
    return (features.float() @ direction) / _lengths(features)


def _lengths(features: Float[Tensor, "*b d"], keepdim: bool = False) -> Float[Tensor, "*l"]:
    lengths = torch.linalg.vector_norm(features, dim=-1, keepdim=keepdim, dtype=torch.float32)
    return lengths.clamp(min=torch.finfo(torch.float32).tiny)


def greedily(
    scores: Float[Tensor, "g m"],
    update: Update,
    number: int,
    frame: Int[Tensor, "g m"],
    room: Int[Tensor, "f"],
    free: Bool[Tensor, "g m"],
    least: Float[Tensor, ""] | None = None,
) -> Int[Tensor, "g k"]:
    """Places of up to `number` tokens of each group in the order of picking, -1 behind the last.

    The next one is always the `free` token with the largest score (ties: lower index), and
    `update` says what its pick makes of the scores. A frame is closed once `room[f]` of its tokens
    are picked. Picking ends before a score of `least` or lower, but for the first.
    """
    order, room = scores.new_full((len(scores), number), -1, dtype=torch.long), room.clone()
    free = free & (room > 0)[frame]
    # every pick depends on those before it; on the way nothing is read from the device
    for step in range(number):
        if least is not None and step:
            free = free & (scores > least)
        best = scores.masked_fill(~free, -torch.inf).argmax(-1, keepdim=True)
        picked = free.gather(1, best)
        order[:, step] = torch.where(picked, best, -1).squeeze(1)
        room.scatter_add_(0, frame.gather(1, best).squeeze(1), -picked.squeeze(1).long())
        free = free.scatter(1, best, False) & (room > 0)[frame]
        if step + 1 < number:
            scores = update(scores, best.squeeze(1), step)
    return order


def one_by_one(
    scores: Float[Tensor, "f m"],
    update: Update,
    room: Int[Tensor, "f"],
    free: Bool[Tensor, "f m"],
) -> Int[Tensor, "f k"]:
    """The same where each group is one frame, and picks `room[f]` of its tokens.

    No frame waits for another, so that its first picks are all that it needs.
    """
    number, order = hosted.most(room), []
    taken = ~free
    for step in range(number):  # each depends on those before it
        best = scores.masked_fill(taken, -torch.inf).argmax(-1, keepdim=True)
        order.append(best)
        if step + 1 < number:
            taken.scatter_(1, best, True)
            scores = update(scores, best.squeeze(1), step)
    picked = torch.cat(order or [scores[:, :0].long()], dim=1)
    if {*hosted.numbers(room)} == {number}:
        return picked
    return picked.where(ragged.real(room, number), -1)


@torch.no_grad()  # it ranks, and writes in place
def apart(
    far: Float[Tensor, "f m m"], valid: Bool[Tensor, "f m"], room: Int[Tensor, "f"]
) -> Int[Tensor, "f k"]:
    """Places of `room[f]` tokens of each frame, one by one: that whose smallest distance to those
    before (to all others, at first) is largest. -1 behind the last.

    `far[f, i, j]` is the distance of j to i, and is written into. Ties: lower index.
    """
    number, order, whole = hosted.most(room), [], hosted.all_true(valid)
    itself, frame = far.diagonal(dim1=1, dim2=2), torch.arange(len(far), device=far.device)
    if not whole:
        far.masked_fill_(~valid.unsqueeze(2), torch.inf)
    itself.fill_(torch.inf)
    worth = far.amin(1)
    if not whole:
        worth.masked_fill_(~valid, -torch.inf)
        far.masked_fill_(~valid.unsqueeze(1), -torch.inf)
    itself.fill_(-torch.inf)  # which no minimum lets go: nothing is picked again
    for step in range(number):  # each depends on those before it
        order.append(worth.argmax(-1))
        if step + 1 < number:
            distance = far[frame, order[-1]]
            worth = worth.minimum(distance) if step else distance
    picked = torch.stack(order, dim=1) if order else frame.new_zeros(len(far), 0)
    if {*hosted.numbers(room)} == {number}:
        return picked
    return picked.where(ragged.real(room, number), -1)


def keep_within(
    scores: Float[Tensor, "n"],
    frame: Int[Tensor, "n"],
    room: Int[Tensor, "f"] | None,
    total: int,
    valid: Bool[Tensor, "n"] | None = None,
) -> Bool[Tensor, "n"]:
    """Marks the `total` largest scores, at most `room[f]` of frame f; None: as many as there are.

    Ties go to the lower index; what is not `valid` is never marked. Frames may stand in any order.
    """
    if room is None:
        top = ops.keep_top(scores, total, valid)
        return top if valid is None else top & valid
    order = ops.ranking(scores, valid)
    mine = frame[order]
    together = mine.argsort(stable=True)
    counts = torch.zeros_like(room).scatter_add(0, frame, torch.ones_like(frame))
    start = ragged.starts(counts)[mine[together]]
    place = torch.empty_like(order)  # in its frame, from the best
    place[together] = torch.arange(len(order), device=order.device) - start
    fits = place < room[mine]
    if valid is not None:
        fits &= valid[order]
    fits &= fits.cumsum(0) <= total
    return torch.zeros_like(fits).scatter(0, order, fits)


def marked(order: Int[Tensor, "g k"], width: int) -> Bool[Tensor, "g m"]:
    """The places in `order` as a mask; -1 is none."""
    mask = torch.zeros(len(order), width + 1, dtype=torch.bool, device=order.device)
    return mask.scatter_(1, order.masked_fill(order < 0, width), True)[:, :width]


def rows(
    order: Int[Tensor, "g k"], counts: Int[Tensor, "g"], picked: Int[Tensor, "g"]
) -> Int[Tensor, "q"]:
    """Row numbers, ascending, of the places in `order`, of which each group has `picked[g]`.

    Groups are rows of `counts` by frame; -1 is no place.
    """
    asked, width = hosted.numbers(picked), ragged.widest(counts)
    first, equal = ragged.starts(counts).unsqueeze(-1), len({*asked}) == 1
    if equal and order.shape[1] == asked[0]:
        return (order.sort().values + first).flatten()
    # what is no place comes behind all others
    placed = order.masked_fill(order < 0, width).sort().values[:, : max(1, *asked, 0)] + first
    if equal:
        return placed[:, : asked[0]].flatten()
    return placed.flatten().index_select(0, ragged.cells(picked, placed.shape[1]))


@exact
@torch.no_grad()  # it ranks
def loneliest(vectors: Float[Tensor, "n d"], row: Int[Tensor, "q"]) -> Int[Tensor, "1"]:
    """That of the rows `row` of unit `vectors` whose nearest other vector is farthest.

    A row drops out once it has met a neighbour nearer than the nearest of some other row, so that
    few of all pairs are looked at; first those that stand close to each other, which in a video are
    alike. Ties go to the lower index.
    """
    if len(vectors) <= PART:  # all pairs at once, and no row is looked for
        similar = (vectors @ vectors.T).fill_diagonal_(-torch.inf)
        nearest = similar.amax(1).index_select(0, row)
        return row.gather(0, nearest.argmin(0, keepdim=True))
    nearest = torch.full_like(vectors[:, 0], -torch.inf)
    # blocks of rows
    for start in range(0, len(vectors), PART):
        close = slice(start, start + 2 * PART)
        similar = vectors[start : start + PART] @ vectors[close].T
        similar.fill_diagonal_(-torch.inf)
        nearest[close] = nearest[close].maximum(similar.amax(0))
        here = nearest[start : start + PART]
        here.copy_(here.maximum(similar.amax(1)))
    row, nearest = _still_lonely(vectors, row, nearest[row])
    # blocks of columns
    for start in range(0, len(vectors), PART):
        block = vectors[start : start + PART]
        column = torch.arange(start, start + len(block), device=row.device)
        similar = vectors[row] @ block.T
        similar.masked_fill_(row.unsqueeze(1) == column, -torch.inf)
        row, nearest = _still_lonely(vectors, row, nearest.maximum(similar.amax(1)))
    return row.gather(0, nearest.argmin(0, keepdim=True))


def _still_lonely(
    vectors: Float[Tensor, "n d"], row: Int[Tensor, "q"], nearest: Float[Tensor, "q"]
) -> tuple[Int[Tensor, "p"], Float[Tensor, "p"]]:
    """The rows that may be the loneliest, after all neighbours of the best so far are known."""
    best = row[nearest.topk(min(CANDIDATES, len(row)), largest=False).indices]
    similar = (vectors[best] @ vectors.T).scatter_(1, best.unsqueeze(1), -torch.inf)
    left = nearest <= similar.amax(1).min() + ROUNDING
    return row[left], nearest[left]


@exact
@torch.no_grad()  # it ranks
def farthest(
    vectors: Float[Tensor, "n d"],
    frame: Int[Tensor, "n"],
    room: Int[Tensor, "f"] | None,
    number: int,
) -> Int[Tensor, "k"]:
    """`number` rows of unit `vectors` in the order of picking, at most `room[f]` of frame f.

    None: as many as there are. First the loneliest, then always the row farthest by cosine from all
    that are picked.
    """
    row, pool = torch.arange(len(vectors), device=vectors.device), room is None
    if room is None:  # one frame that holds all, and never closes
        free, frame = row >= 0, torch.zeros_like(row)
        room = hosted.sent([number + 1], row.device)
    else:
        free = (room > 0)[frame]
        row = free.nonzero().squeeze(1)
    picks = [loneliest(vectors, row)] if number else [row[:0]]
    near, left = torch.full_like(vectors[:, 0], torch.inf), number - 1
    if pool and left > 0 and len(vectors) <= BLOCK:  # nobody is left out
        apart = 1 - vectors @ vectors.T
        free = free.index_fill(0, picks[0], False).unsqueeze(0)
        near, many = apart.index_select(0, picks[0]), hosted.sent([left], free.device)
        rest = one_by_one(near, lambda scores, pick, _: scores.minimum(apart[pick]), many, free)
        return torch.cat([picks[0], rest[0]])
    # A pick changes the distances of all rows, but only few rows can come next. These are compared
    # with each other once and picked from until one outside could be next; then all rows hear of
    # the picks, in one product.
    while left > 0:
        new = picks[-1]
        near = near.minimum(1 - (vectors @ vectors[new].T).amax(1))
        room = room.scatter_add(0, frame[new], -torch.ones_like(new))
        free = free.index_fill(0, new, False) & (room > 0)[frame]
        order = ops.ranking(near, free)
        some = order[:BLOCK].sort().values
        apart = 1 - vectors[some] @ vectors[some].T
        least = near[order[BLOCK]] if len(order) > BLOCK else None
        places = greedily(
            near[some].unsqueeze(0),
            lambda scores, place, _, apart=apart: scores.minimum(apart[place]),
            min(STEPS, left),
            frame[some].unsqueeze(0),
            room,
            free[some].unsqueeze(0),
            least,
        )
        picks.append(some[places[places >= 0]])
        left -= len(picks[-1])
    return torch.cat(picks)
