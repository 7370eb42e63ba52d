"""The methods of `naive.py` as somebody who knows torch writes them for one video.

Still a plain loop over frames. A frame's scores, products and sums are each one call, what is
needed twice is computed once, and what is a handful of numbers becomes a Python list first. Frames
have equal sizes and everything is on the CPU, which `tokenprune` does not take for granted. Inputs,
results and ties are those of `naive.py`, and checked the same way.
"""

from __future__ import annotations

import torch
from naive import NEIGHBOURS, TEXT, WINDOW
from torch import Tensor
from torch.nn import functional


def prumerge(
    features: Tensor, keys: Tensor, attention: Tensor, grid: bool = False
) -> tuple[list[int], Tensor]:
    """PruMerge, and with `grid` PruMerge+."""
    kept, merged = [], []
    n = features.shape[1]
    quartiles = attention.new_tensor([0.25, 0.75], dtype=torch.double)
    for frame, (x, key, a) in enumerate(zip(features, keys, attention, strict=True)):
        first, third = torch.quantile(a.double(), quartiles).tolist()
        values = a.tolist()
        number = max(1, sum(value > third + 1.5 * (third - first) for value in values))
        selected = a.argsort(descending=True, stable=True)[:number].tolist()
        seen = set(selected)
        if grid:
            stride = max(1, int(1 / (number / n)) // 3)
            selected += [token for token in range(0, n - 1, stride) if token not in seen]
            seen.update(selected)
        if len(selected) + 1 >= n:  # nothing to merge
            kept += range(frame * n, (frame + 1) * n)
            merged.append(x)
            continue
        unit = functional.normalize(key, dim=-1)
        centres = torch.tensor(selected)
        near = _nearest((unit[centres] @ unit.T).scatter_(1, centres.unsqueeze(1), -torch.inf))
        rest = a.clone()
        rest[centres] = 0
        absorbed = functional.embedding_bag(near, x, mode="sum", per_sample_weights=a[near])
        merged += [absorbed.add_(x[centres]), rest.unsqueeze(0) @ x]
        extra = max((token for token in range(n) if token not in seen), key=values.__getitem__)
        kept += [frame * n + token for token in (*selected, extra)]
    return kept, torch.cat(merged)


def _nearest(cosine: Tensor) -> Tensor:
    """The 32 largest of every row; of equals at the border, those of the lowest indices."""
    if cosine.shape[1] <= NEIGHBOURS:
        return cosine.argsort(descending=True, stable=True)
    largest, near = cosine.topk(NEIGHBOURS + 1)
    tied = largest[:, -1] == largest[:, -2]
    near[tied] = cosine[tied].argsort(descending=True, stable=True)[:, : NEIGHBOURS + 1]
    return near[:, :NEIGHBOURS]


def visionzip(
    features: Tensor, saliency: Tensor, keys: Tensor, budget: list[int]
) -> tuple[list[int], Tensor]:
    """VisionZip with the tokens that every frame keeps."""
    kept, merged = [], []
    n = features.shape[1]
    for frame, (x, score, key) in enumerate(zip(features, saliency, keys, strict=True)):
        dominant = 6 * budget[frame] // 7
        contextual = budget[frame] - dominant
        top = score.argsort(descending=True, stable=True)[:dominant].sort().values
        kept.append(frame * n + top)
        merged.append(x[top])
        if contextual == 0:
            continue
        follows = torch.ones(n, dtype=torch.bool)
        follows[top] = False
        rest = follows.nonzero().squeeze(-1)
        targets = rest[:: max(1, len(rest) // contextual)][:contextual]
        follows[targets] = False
        followers = follows.nonzero().squeeze(-1)
        unit = functional.normalize(key, dim=-1)
        nearest = (unit[followers] @ unit[targets].T).argmax(-1)
        member = torch.zeros(len(targets), n)
        member[nearest, followers] = 1
        mean = (member @ x).div_(member.sum(1, keepdim=True).clamp(min=1))
        kept.append(frame * n + targets)
        merged.append(mean.add_(x[targets]))
    return torch.cat(kept).tolist(), torch.cat(merged)


def dycoke(
    features: Tensor, merge: float, budget: list[int] | None = None
) -> tuple[list[int], Tensor]:
    """DyCoke's temporal merging, with the budget of every frame where there is an allocator."""
    frames, n, _ = features.shape
    number, every = int((1 - merge) * n), torch.arange(n)
    squares = [torch.linalg.vecdot(x, x) for x in features]
    kept = []
    for frame in range(frames):
        place = frame % WINDOW
        keep = budget[frame] if budget is not None else n if place == 0 else number
        if keep == n:
            kept.append(frame * n + every)
            continue
        reference = (
            (frame - WINDOW if frame else 1)
            if place == 0
            else frame - (1 if place in (1, 3) else 2)
        )
        product = torch.linalg.vecdot(features[frame], features[reference])
        cosine = product / (squares[frame] * squares[reference]).sqrt()
        kept.append(frame * n + cosine.argsort(stable=True)[:keep].sort().values)
    rows = torch.cat(kept)
    return rows.tolist(), features.flatten(0, 1)[rows]


def fastv(attention: Tensor, frame: Tensor, drop: float) -> list[int]:
    """FastV's selection."""
    frames = frame.tolist()
    visual = [row for row, number in enumerate(frames) if number != TEXT]
    number = round(len(visual) * (1 - drop))
    top = set(sorted(visual, key=attention.tolist().__getitem__, reverse=True)[:number])
    return [row for row, number in enumerate(frames) if number == TEXT or row in top]


def apportion(weights: Tensor, total: int, cap: Tensor) -> Tensor:
    """DyToK's allocation."""
    ideal, most = (weights / weights.sum() * total).tolist(), cap.tolist()
    share = [int(number) for number in ideal]
    remainder = [number - whole for number, whole in zip(ideal, share, strict=True)]
    _deal(share, most, remainder, total - sum(share))
    excess = sum(max(0, number - limit) for number, limit in zip(share, most, strict=True))
    share = [min(number, limit) for number, limit in zip(share, most, strict=True)]
    _deal(share, most, weights.tolist(), excess)
    return torch.tensor(share)


def _deal(share: list[int], most: list[int], first: list[float], amount: int) -> None:
    """Hands out `amount` tokens in turns of one, in descending `first`, up to the frames' caps."""
    order = sorted(range(len(share)), key=first.__getitem__, reverse=True)
    while amount > 0:
        order = [frame for frame in order if share[frame] < most[frame]]
        for frame in order[:amount]:
            share[frame] += 1
        amount -= min(amount, len(order))


def frame_weights(queries: Tensor, keys: Tensor, frames: int) -> Tensor:
    """DyToK's frame weights."""
    shared = queries.shape[1] // keys.shape[1]
    weights = torch.zeros(frames)
    for query, key in zip(queries / queries.shape[2] ** 0.5, keys, strict=True):
        for group, own in zip(query.split(shared), key, strict=True):
            weights += (group @ own.T).softmax(-1).sum(0).view(frames, -1).mean(-1)
    return weights / weights.sum()
