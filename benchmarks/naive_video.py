"""Methods that merge over a whole video, word by word as their descriptions read: as published.

See `naive.py`: features [f, n, d], saliency [f, n]. Every method returns what it keeps as numbers,
`frame * n + token` in ascending order, and what these tokens have become.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def peaks(x: Tensor, number: int, neighbours: int) -> tuple[list[int], list[int]]:
    """Density peaks: the centres in descending score, and the centre of every token."""
    count = len(x)
    distance = [((x - row).norm(dim=-1) / x.shape[1] ** 0.5).tolist() for row in x]
    near = min(neighbours, count)
    density = [
        math.exp(-sum(d * d for d in sorted(distance[i])[:near]) / near) for i in range(count)
    ]
    farthest, score = max(max(row) for row in distance), []
    for i in range(count):
        denser = [
            distance[i][j] for j in range(count) if (density[j], -j) > (density[i], -i) and j != i
        ]
        score.append(density[i] * (min(denser) if denser else farthest))
    centres = sorted(range(count), key=lambda i: (-score[i], i))[:number]
    member = [
        i if i in centres else min(centres, key=lambda centre: distance[i][centre])
        for i in range(count)
    ]
    return centres, member


def holitom(
    features: Tensor, saliency: Tensor, keep: float, similarity: float, neighbours: int
) -> tuple[list[int], Tensor]:
    """HoliTom's outer stage: scenes that save most, static cells, attended ones."""
    frames, n, _ = features.shape
    same = [
        [
            _cosine(features[frame, cell], features[frame + 1, cell]) > similarity
            for cell in range(n)
        ]
        for frame in range(frames - 1)
    ]

    def still(start: int, end: int) -> list[int]:
        inside = range(start, end - 1)
        return [cell for cell in range(n) if all(same[frame][cell] for frame in inside)]

    best, last = [0], []
    for end in range(1, frames + 1):
        choice = (-1, 0)
        for length in range(1, end + 1):
            saved = (length - 1) * len(still(end - length, end)) if length > 1 else 0
            if best[end - length] + saved > choice[0]:
                choice = best[end - length] + saved, length
        best.append(choice[0])
        last.append(choice[1])
    ratio = min(keep / ((frames * n - best[-1]) / (frames * n)), 1.0)
    found: dict[int, Tensor] = {}
    end = frames
    while end > 0:
        start = end - last[end - 1]
        static = still(start, end) if end - start > 1 else []
        if number := round(len(static) * ratio):
            mean = features[start:end, static].mean(0)
            centres, member = peaks(mean, number, min(neighbours, number))
            for centre in centres:
                joined = [i for i in range(len(static)) if member[i] == centre]
                found[start * n + static[centre]] = mean[joined].mean(0)
        for frame in range(start, end):
            others = [cell for cell in range(n) if cell not in static]
            others.sort(key=lambda cell: -float(saliency[frame, cell]))
            for cell in others[: math.ceil(len(others) * ratio)]:
                found[frame * n + cell] = features[frame, cell]
        end = start
    return _sorted(found)


def fastvid(
    features: Tensor,
    saliency: Tensor,
    keep: float,
    segments: int,
    similarity: float,
    context: float,
    stride: int,
    beta: float,
    neighbours: int,
) -> tuple[list[int], Tensor]:
    """FastVID: segments, salient tokens, and anchors of each that gather the other tokens."""
    _, n, _ = features.shape
    found: dict[int, Tensor] = {}
    for inside in _segments(features.mean(1), similarity, segments):
        length = len(inside)
        total = int(keep * n) * length
        anchored = int(total * context)
        groups = math.ceil(length / stride)
        rest = {}
        for turn, frame in enumerate(inside):
            number = (total - anchored) // length + (turn < (total - anchored) % length)
            order = sorted(range(n), key=lambda cell: -float(saliency[frame, cell]))
            for cell in order[:number]:
                found[frame * n + cell] = features[frame, cell]
            rest[frame] = sorted(order[number:])
        for group, frame in enumerate(inside[::-1][::stride]):
            number = anchored // groups + (group < anchored % groups)
            free = features[frame, rest[frame]]
            centres, _ = peaks(free, number, neighbours)
            anchors = sorted(rest[frame][place] for place in centres)
            joined: dict[int, list[Tensor]] = {cell: [] for cell in anchors}
            for other in inside:
                for cell in rest[other]:
                    if other != frame or cell not in anchors:
                        token = features[other, cell]
                        cosines = torch.cosine_similarity(features[frame, anchors], token, dim=-1)
                        joined[anchors[int(cosines.argmax())]].append(token)
            for cell, others in joined.items():
                value = features[frame, cell]
                if others:
                    own = max(1 / (len(others) + 1), beta)
                    value = own * value + (1 - own) * torch.stack(others).mean(0)
                found[frame * n + cell] = value
    return _sorted(found)


def flashvid(
    features: Tensor,
    saliency: Tensor,
    keep: float,
    expansion: float,
    alpha: float,
    similarity: float,
    transition: float,
    segments: int,
) -> tuple[list[int], Tensor]:
    """FlashVID's first stage: picks, trees through time, and clusters of their roots."""
    _, n, _ = features.shape
    budget = min(n, math.ceil(n * keep * expansion))
    chosen = math.ceil(budget * alpha)
    means, found = features.mean(1), {}
    for inside in _segments(means, transition, segments):
        whole = means[inside].sum(0)
        picked = {
            frame: _picks(features[frame], saliency[frame], whole, chosen) for frame in inside
        }
        for frame in inside:
            for cell in picked[frame]:
                found[frame * n + cell] = features[frame, cell]
        free = {frame: [c for c in range(n) if c not in picked[frame]] for frame in inside}
        links = {}
        for frame in inside[1:]:
            for cell in free[frame]:
                before = features[frame - 1, free[frame - 1]]
                cosines = torch.cosine_similarity(before, features[frame, cell], dim=-1)
                near = int(cosines.argmax())
                links[frame, cell] = float(cosines[near]), (frame - 1, free[frame - 1][near])
        made = [child for child in links if links[child][0] >= similarity]
        total, least = n * len(inside), budget * len(inside)
        if total - len(made) < least:
            made = sorted(links, key=lambda child: -links[child][0])[: total - least - 1]
        tree: dict[tuple[int, int], list[tuple[int, int]]] = {}
        root = {}
        for frame in inside:
            for cell in free[frame]:
                child = frame, cell
                root[child] = root[links[child][1]] if child in made else child
                tree.setdefault(root[child], []).append(child)
        share = min(1.0, (budget - chosen) * len(inside) / max(1, len(tree)))
        for frame in inside:
            roots = [cell for cell in free[frame] if (frame, cell) in tree]
            if not roots:
                continue
            values = torch.stack(
                [
                    torch.stack([features[child] for child in tree[frame, cell]]).mean(0)
                    for cell in roots
                ]
            )
            number = math.ceil(len(roots) * share)
            centres, member = peaks(values, number, min(7, number))
            for centre in centres:
                joined = [i for i in range(len(roots)) if member[i] == centre]
                found[frame * n + roots[centre]] = values[joined].mean(0)
    return _sorted(found)


def _picks(x: Tensor, saliency: Tensor, whole: Tensor, number: int) -> list[int]:
    """ADTS of one frame: attended to, like the segment, and unlike each other."""
    far = []
    for token in x:
        distance = 1 - torch.cosine_similarity(x, token, dim=-1)
        far.append((distance * saliency * (x @ whole)).tolist())
    picks: list[int] = []
    while len(picks) < number:
        worth = {}
        for j in range(len(x)):
            if j not in picks:
                worth[j] = min(far[i][j] for i in (picks or range(len(x))) if i != j)
        picks.append(max(worth, key=lambda j: worth[j]))
    return picks


def prunevid(
    features: Tensor, similarity: float, scenes: float, clusters: float
) -> tuple[list[int], Tensor]:
    """PruneVid's merging: scenes of frames, static cells, and clusters in each frame."""
    frames, n, _ = features.shape
    _, labels = peaks(features.mean(1), max(1, int(frames * scenes)), 7)
    labels, found = _consecutive(labels), {}
    starts = [frame for frame in range(frames) if frame == 0 or labels[frame] != labels[frame - 1]]
    for start, end in zip(starts, [*starts[1:], frames], strict=True):
        inside, static = range(start, end), []
        for cell in range(n if end - start > 1 else 0):
            same = features[start:end, cell]
            cosines = [_cosine(a, b) for a in same for b in same if a is not b]
            if sum(cosines) / len(cosines) >= similarity:
                static.append(cell)
        moving = [cell for cell in range(n) if cell not in static]
        groups = [(start, static, features[start:end, static].mean(0))]
        groups += [(frame, moving, features[frame, moving]) for frame in inside]
        for frame, cells, values in groups:
            centres, member = [*range(len(cells))], [*range(len(cells))]
            if len(cells) > 14:
                centres, member = peaks(values, max(1, int(len(cells) * clusters)), 7)
            for centre in centres:
                joined = [i for i in range(len(cells)) if member[i] == centre]
                found[frame * n + cells[centre]] = values[joined].mean(0)
    return _sorted(found)


def framefusion(features: Tensor, cost: float, similarity: float) -> tuple[list[int], Tensor]:
    """FrameFusion's event at the input: runs of a cell's tokens go into the first of them."""
    frames, n, _ = features.shape
    alike = {}
    for cell in range(n):
        for frame in range(1, frames):
            alike[frame, cell] = _cosine(features[frame, cell], features[frame - 1, cell])
    hits = {token for token in alike if alike[token] >= similarity}
    most = int((1 - cost) * frames * n)
    if len(hits) >= most:
        hits = set(sorted(alike, key=lambda token: (-alike[token], token[::-1]))[:most])
    found = {}
    for cell in range(n):
        start = 0
        for end in range(1, frames + 1):
            if (end, cell) not in hits:
                found[start * n + cell] = features[start:end, cell].mean(0)
                start = end
    return _sorted(found)


def _consecutive(labels: list[int]) -> list[int]:
    """The longest run of every label stays; what is left joins the longer of its neighbours."""
    frames, runs, start = len(labels), [], 0
    for end in range(1, frames + 1):
        if end == frames or labels[end] != labels[start]:
            runs.append((start, end))
            start = end
    found: list[int | None] = [None] * frames
    for start, end in runs:
        longest = max(b - a for a, b in runs if labels[a] == labels[start])
        if end - start == longest > 1:
            found[start:end] = labels[start:end]
    while None in found:
        start = found.index(None)
        end = next((f for f in range(start, frames) if found[f] is not None), frames)
        left = right = 0
        while start - left > 0 and found[start - left - 1] == found[start - 1]:
            left += 1
        while end + right < frames and found[end + right] == found[end]:
            right += 1
        label = 0 if left == right == 0 else found[start - 1] if left >= right else found[end]
        found[start:end] = [label] * (end - start)
    return [label for label in found if label is not None]


def _segments(means: Tensor, threshold: float, least: int) -> list[list[int]]:
    """Consecutive frames: cut where means differ, and where they differ most until there are
    enough.
    """
    frames = len(means)
    alike = [_cosine(means[frame], means[frame + 1]) for frame in range(frames - 1)]
    order = sorted(range(frames - 1), key=lambda frame: alike[frame])
    below = [frame for frame in order if alike[frame] < threshold]
    cuts = sorted(below if len(below) >= least else order[: max(len(below), least - 1)])
    starts = [0, *(cut + 1 for cut in cuts)]
    return [[*range(a, b)] for a, b in zip(starts, [*starts[1:], frames], strict=True)]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


def _sorted(found: dict[int, Tensor]) -> tuple[list[int], Tensor]:
    kept: Sequence[int] = sorted(found)
    return [*kept], torch.stack([found[address] for address in kept])
