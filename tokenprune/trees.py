"""Trees of tokens through time: each follows the most similar one of the frame before.

All of it stands by frame, padded to the largest, and a token's number is its place there, all
counted through: no shape depends on what is chosen, and nothing is read before trees are counted.

Axes: `f` frames padded to `m` tokens, `p` places of them all, `q` of those left, `d` width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import compress
from operator import add
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import clustering, hosted, merging, ops, ragged
from tokenprune.precision import exact

Follow = Literal["paper", "released"]


@exact
def steps(mean: Float[Tensor, "f d"]) -> Float[Tensor, "f-1"]:
    """The cosine of each frame's mean with the next one's; exactly 1 where both are equal."""
    pairs = mean.unfold(0, 2, 1)  # [f-1 d 2], a view
    before, product, _, behind = pairs.mT.bmm(pairs).flatten(1).unbind(1)
    return ops.cosine_of(product, before, behind)


@exact
@torch.no_grad()
def links(
    unit: Float[Tensor, "f m d"], taken: Bool[Tensor, "f m"], segment: Int[Tensor, "f"]
) -> tuple[Float[Tensor, "f m"], Int[Tensor, "f m"]]:
    """The largest cosine of each token with one of the frame before, and its place there.

    Of `unit` vectors of tokens that are not `taken`. The cosine is -1 where there is none, as in
    the first frame of a segment.
    """
    cosine = unit[1:].bmm(unit[:-1].mT).masked_fill_(taken[:-1].unsqueeze(1), -torch.inf)
    nearest, place = cosine.max(-1)
    similar = functional.pad(nearest, (0, 0, 1, 0), value=-1).clamp_(-1, 1)
    begins = segment != segment.roll(1)  # or is the first frame, which has no cosine
    similar.masked_fill_(taken | begins.unsqueeze(1), -1)
    return similar, functional.pad(place, (0, 0, 1, 0))


def joined(
    similar: Float[Tensor, "f m"],
    segment: Int[Tensor, "f"],
    spare: Int[Tensor, "f"],
    threshold: float,
    follow: Follow,
) -> Bool[Tensor, "f m"]:
    """Which links are made: all at the threshold, or where a segment would lose more tokens than
    its frames have to `spare` together only its best.
    """
    over = similar >= threshold if follow == "paper" else similar > threshold
    # sums over each frame's segment, in doubles, where whole numbers are exact
    together = (segment.unsqueeze(1) == segment).double()
    most, lost = (together @ torch.stack([spare, over.sum(1)], dim=1).double()).unbind(1)
    # one order of all tokens: segment after segment, in each the most similar first
    key = similar.double().sub_(segment.unsqueeze(1), alpha=4)
    order = functional.pad(key.flatten().sort(descending=True).values, (1, 0), value=torch.inf)
    first = torch.searchsorted(segment, segment) * similar.shape[1]
    # the last that could go; where none can, what stands before it, which is above the segment
    bar = order[first + most.long()].masked_fill(lost <= most, -torch.inf)
    return over & (key > bar.unsqueeze(1))


def parents(
    unit: Float[Tensor, "f m d"],
    taken: Bool[Tensor, "f m"],
    segment: Int[Tensor, "f"],
    spare: Int[Tensor, "f"],
    threshold: float,
    follow: Follow,
) -> Int[Tensor, "p"]:
    """The token that each token follows; itself where it follows none, as where it is `taken`."""
    similar, place = links(unit, taken, segment)
    merges = joined(similar, segment, spare, threshold, follow)
    places, width = merges.numel(), merges.shape[1]
    before = torch.arange(-width, places - width, width, device=place.device).unsqueeze(1)
    own = torch.arange(places, device=place.device).view(place.shape)
    return torch.where(merges, place + before, own).flatten()


def roots(parent: Int[Tensor, "p"], frames: int) -> Int[Tensor, "p"]:
    """Where the tree of each token begins."""
    for _ in range((frames - 1).bit_length()):  # each turn doubles how far a token sees
        parent = parent[parent]
    return parent


def values(
    features: Float[Tensor, "p d"], parent: Int[Tensor, "p"], root: Int[Tensor, "p"], follow: Follow
) -> Float[Tensor, "p d"]:
    """What each tree is, at its root: its mean, or its sum over 1 + direct children; else zero."""
    number = torch.arange(len(root), device=root.device)
    if follow == "paper":
        return merging.means(features, root, number)
    run, token = root.sort(stable=True)
    sums = merging.sums_of_runs(features, token, torch.searchsorted(run, number))
    # a root is its own parent
    children = torch.zeros_like(number).scatter_add_(0, parent, torch.ones_like(number))
    return sums / children.clamp(min=1).unsqueeze(-1)


def centres(
    trees: Int[Tensor, "f"], segment: Int[Tensor, "f"], room: Sequence[int]
) -> Int[Tensor, "f"]:
    """How many clusters each frame's `trees` become: the share of its segment's trees that fits the
    `room` of all its frames, rounded up.
    """
    read = torch.cat([trees, segment]).tolist()  # all that the host ever has to know
    number, of = read[: len(room)], read[len(room) :]
    hosted.note(trees, number)
    there, fits = Counter[int](), Counter[int]()
    for one, own, room_of in zip(of, number, room, strict=True):
        there[one] += own
        fits[one] += room_of
    share = {one: min(1.0, fits[one] / max(1, there[one])) for one in there}
    found = [ops.count(own, share[one], "up") for one, own in zip(of, number, strict=True)]
    return hosted.sent(found, trees.device)


class Clustered(NamedTuple):
    """What is left of trees.

    places: of the tokens that are left, ascending
    members: the one of these where each token went, -1 of none
    means: of the trees of each cluster; of a token that was picked its feature
    counts: how many of each frame are left
    """

    places: Int[Tensor, "q"]
    members: Int[Tensor, "f m"]
    means: Float[Tensor, "q d"]
    counts: list[int]


def clustered(
    features: Float[Tensor, "f m d"],
    parent: Int[Tensor, "p"],
    picked: Bool[Tensor, "f m"],
    taken: Bool[Tensor, "f m"],
    segment: Int[Tensor, "f"],
    chosen: Int[Tensor, "f"],
    room: Sequence[int],
    follow: Follow,
) -> Clustered:
    """The trees become as many clusters as fit the `room` of their segment's frames, by density
    peaks, at the place of the centre; what was `picked`, `chosen[f]` of each frame, stays.

    `taken` is what is in no tree: the same, and padding.
    """
    root = roots(parent, len(segment))
    value = values(features.flatten(0, 1), parent, root, follow)
    own = torch.arange(len(root), device=root.device)
    standing = (root == own).view(taken.shape) & ~taken
    grown = standing.sum(1)
    clusters = centres(grown, segment, room)
    near = hosted.each(partial(min, 7), clusters)
    found = clustering.density_peaks(
        value.view(features.shape), standing, clusters, near, counts=grown
    )
    stay, become = hosted.numbers(chosen), hosted.numbers(clusters)
    left = [*map(add, stay, become)]
    led = sum(stay) + sum(compress(hosted.numbers(grown), become))

    own = own.view(taken.shape)
    centre = found.centre.gather(1, found.member.clamp(min=0)) + own[:, :1]
    leader = torch.where(found.member < 0, own.masked_fill(~picked, -1), centre).flatten()
    gone = merging.to_leaders(value, leader, sum(left), len(leader) - led)
    return Clustered(gone.rows, gone.members[root].view(taken.shape), gone.means, left)


def rows(places: Int[Tensor, "q"], counts: Int[Tensor, "f"], width: int) -> Int[Tensor, "q"]:
    """Which rows stand at ascending places, where frames of `counts` rows are padded to `width`."""
    if hosted.total(counts) == len(counts) * width:
        return places
    return torch.searchsorted(ragged.cells(counts, width), places)
