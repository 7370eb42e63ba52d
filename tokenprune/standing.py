"""Cells of a video that stand still for a scene, and what they become: pure parts of methods.

What stands still is read once. Which rows that means follows on the host, where the cells of a
frame are the bits of one number, and is sent back together.

Axes: `f` frames, `t` transitions from one frame to the next, `n` cells of a frame, `i` tokens, `d`
width, `s` tokens that stand still, `c` clusters, `k` cells that stand still, a scene's once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, chain, compress, takewhile
from operator import add, and_
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import clustering, hosted, ops, ragged
from tokenprune.precision import exact

SHORTEST = 1e-15  # lengths whose product is still above zero


class Scene(NamedTuple):
    """Consecutive frames.

    Args:
        first: the first of them
        frames: how many they are
        cells: those that stay the same in all of its transitions, ascending; of one frame none
    """

    first: int
    frames: int
    cells: list[int]

    def rows(self, row: Sequence[int], cells: int) -> list[int]:
        """Those of its static cells, each through time, as they stand in its first frame.

        `row` is that of each cell, all `cells` of all frames counted through.
        """
        end = self.frames * cells
        places = sorted((self.first * cells + cell for cell in self.cells), key=row.__getitem__)
        return [*chain.from_iterable(row[place : place + end : cells] for place in places)]


def unchanged(features: Float[Tensor, "f n d"], similarity: float) -> Bool[Tensor, "t n"]:
    """Where the cosine of a cell with itself, one frame later, is above `similarity`.

    That of what is all zero is 0.
    """
    features = features.float()
    length = torch.linalg.vector_norm(features, dim=-1).clamp(min=SHORTEST)
    product = (features[1:] * features[:-1]).sum(-1)
    least = similarity if similarity < 1 else torch.inf  # whatever rounding makes of a cosine of 1
    return torch.addcmul(product, length[1:], length[:-1], value=-least) > 0


def known(
    same: Bool[Tensor, "t n"], frame: Int[Tensor, "i"], slot: Int[Tensor, "i"]
) -> tuple[list[list[int]], Sequence[int]]:
    """The same on the host, and the row of each cell of all frames: one read of both.

    A cell without a token does not stay the same, and has no row but -1.
    """
    if hosted.is_grid(slot):
        return same.tolist(), range(len(slot))
    transitions, cells = same.shape
    row = torch.arange(len(slot), device=slot.device)
    at = row.new_full((transitions + 1, cells), -1).index_put((frame, slot), row)
    read = torch.cat([same & (at[1:] >= 0) & (at[:-1] >= 0), at]).tolist()
    return read[:transitions], [*chain(*read[transitions:])]


def scenes(same: Sequence[Sequence[int]], longest: int) -> tuple[list[Scene], int]:
    """The scenes of at most `longest` frames that save most rows where each has a static cell once.

    `same[t][n]` says whether a cell stays the same. Also returns how many rows are saved. Ties: the
    last frame alone, then the shorter last scene.
    """
    cells = [int.from_bytes(bytes(row), "little") for row in same]  # a byte each
    best, lengths = [0], list[int]()
    # inherent: what the frames before save at most decides about each frame
    for frame in range(len(same) + 1):
        still = takewhile(bool, accumulate(reversed(cells[:frame]), and_))  # one more frame each
        saves = [0, *(more * found.bit_count() for more, found in enumerate(still, 1))]
        total = [*map(add, reversed(best[max(0, frame + 1 - longest) :]), saves)]
        best.append(max(total))
        lengths.append(total.index(best[-1]) + 1)
    found, end = list[Scene](), len(lengths)
    while end > 0:  # scene by scene, from the last
        first = end - lengths[end - 1]
        static = list[int]()
        if end - first > 1:
            every = reduce(and_, cells[first : end - 1]).to_bytes(len(same[0]), "little")
            static = [*compress(range(len(every)), every)]
        found.append(Scene(first, end - first, static))
        end = first
    return found[::-1], best[-1]


class Merged(NamedTuple):
    """Clusters of cells that stand still.

    Args:
        rows: the centre of each, in the first frame of its scene; scene after scene, ascending
        features: of each, in float32
        tokens: all that stand still
        cluster: of each of them
    """

    rows: Int[Tensor, "c"]
    features: Float[Tensor, "c d"]
    tokens: Int[Tensor, "s"]
    cluster: Int[Tensor, "s"]


class _Plan(NamedTuple):
    """What the host knows of scenes and their clusters.

    Cells of all scenes stand padded to those of the largest, which are their places, and so do
    centres.

    Args:
        tokens: that stand still, cell by cell
        begins: of each place, where its tokens begin; there are none of padding
        rows: of each place, that of its first token
        sizes: how many cells each scene has
        centres: how many clusters
        near: how many neighbours make a density
        place: of each cell
        first: of each cell, the first cluster of its scene
        lasting: of each cell, how many tokens it has
        column: of each cluster, that of its centre
        start: of each cluster, the first place of its scene
    """

    tokens: list[int]
    begins: list[int]
    rows: list[int]
    sizes: list[int]
    centres: list[int]
    near: list[int]
    place: list[int]
    first: list[int]
    lasting: list[int]
    column: list[int]
    start: list[int]


def _planned(
    parts: Sequence[tuple[Scene, int]], neighbours: int, row: Sequence[int], cells: int
) -> _Plan:
    plan = _Plan([], [], [], [], [], [], [], [], [], [], [])
    width = max(len(scene.cells) for scene, _ in parts)
    most = max(centres for _, centres in parts)
    for group, (scene, centres) in enumerate(parts):
        tokens, size = scene.rows(row, cells), len(scene.cells)
        begin, end = len(plan.tokens), len(plan.tokens) + len(tokens)
        plan.tokens.extend(tokens)
        plan.begins.extend([*range(begin, end, scene.frames), *[end] * (width - size)])
        plan.rows.extend([*tokens[:: scene.frames], *[0] * (width - size)])
        plan.sizes.append(size)
        plan.centres.append(centres)
        plan.near.append(min(neighbours, centres))
        plan.place.extend(range(group * width, group * width + size))
        plan.first.extend([len(plan.column)] * size)
        plan.lasting.extend([scene.frames] * size)
        plan.column.extend(range(group * most, group * most + centres))
        plan.start.extend([group * width] * centres)
    return plan


@exact
def merged(
    features: Float[Tensor, "i d"],
    parts: Sequence[tuple[Scene, int]],
    neighbours: int,
    row: Sequence[int],
    cells: int,
    beta: float | None = None,
) -> Merged:
    """Static cells averaged over time, and then in density-peak clusters of their scene.

    `parts` are scenes and how many clusters each has, from one to as many as cells are static; for
    `neighbours` see `clustering.density_peaks`. `row` is that of each cell, all `cells` of all
    frames counted through. A cluster is its mean, or its centre `beta` times and the mean of those
    that joined it for the rest.
    """
    plan = _planned(parts, neighbours, row, cells)
    sent = hosted.sent_together(plan, features.device)
    tokens, begins, rows, sizes, centres, near, place, first, lasting, column, start = sent
    width = len(plan.rows) // len(parts)
    means = functional.embedding_bag(tokens, features.float(), begins, mode="mean")
    groups, valid = means.unflatten(0, (len(parts), width)), ragged.real(sizes, width)
    found = clustering.density_peaks(groups, valid, centres, near, "place")
    cluster = found.member.take(place) + first
    centre = found.centre.take(column) + start
    every = cluster.repeat_interleave(lasting, output_size=len(tokens))

    joined, order = cluster.sort(stable=True)
    starts = torch.searchsorted(joined, torch.arange(len(centre), device=centre.device))
    cell, mode, weight = place.take(order), "mean", None
    if beta is not None:
        mode, weight = "sum", _weights(joined, starts, cell == centre[joined], beta)
    sums = functional.embedding_bag(cell, means, starts, mode=mode, per_sample_weights=weight)
    return Merged(rows.take(centre), sums, tokens, every)


def _weights(
    joined: Int[Tensor, "k"], starts: Int[Tensor, "c"], own: Bool[Tensor, "k"], beta: float
) -> Float[Tensor, "k"]:
    """What each cell weighs in its cluster: a centre `beta`, those that joined it the rest."""
    size = functional.pad(starts, (0, 1), value=len(joined)).diff()[joined]
    return torch.where(own, beta, (1 - beta) / (size - 1)).masked_fill(size == 1, 1)


def foremost(
    scores: Float[Tensor, "n"], counts: Sequence[int], number: Sequence[int]
) -> Int[Tensor, "k"]:
    """Rows of the `number[f]` largest scores of each frame of `counts[f]`; ties: lower index."""
    frames, width, valid = len(counts), max(counts), None
    if frames * width == len(scores):
        padded = scores.unflatten(0, (frames, width))
    else:
        padded, valid = ops.by_frame(scores, hosted.sent(counts, scores.device))
    starts = [0, *accumulate(counts[:-1])]
    place = [frame * width + one for frame, most in enumerate(number) for one in range(most)]
    start = [start for most, start in zip(number, starts, strict=True) for _ in range(most)]
    places, begins = hosted.sent_together((place, start), scores.device)
    return ops.ranking(padded, valid).take(places) + begins
