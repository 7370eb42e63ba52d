"""The methods word by word as their descriptions read, which `operators.py` is set against.

This is a first reading in code, and slow code. Tensors are indexed one element at a time, keys are
normalised again for every centre, membership is looked up in lists, and a pair of tokens is one
product. That makes each rule easy to check, which is what these loops are for. Careful code for the
same rules (`careful.py`) is many times faster: the ratio to a loop here says what vectorising gains
over such a loop, and nothing about good code.

Scores are float32, ties go to the lower index, and the decisions are those the strategies'
docstrings state.

Axes: `f` frames, `n` tokens of a frame, `d` width, `k` key width, `s` sequence rows. Every method
returns what it keeps as numbers: `frame * n + token`, in output order.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 32
WINDOW = 4
TEXT = -1


def prumerge(
    features: Tensor, keys: Tensor, attention: Tensor, grid: bool = False
) -> tuple[list[int], Tensor]:
    """PruMerge, and with `grid` PruMerge+: features [f, n, d], keys [f, n, k], attention [f, n]."""
    kept, merged = [], []
    frames, n, _ = features.shape
    for frame in range(frames):
        x, key, a = features[frame], keys[frame], attention[frame]
        selected = _outliers(a)
        if grid:
            stride = max(1, int(1 / (len(selected) / n)) // 3)
            selected = selected + [
                token for token in range(0, n - 1, stride) if token not in selected
            ]
        if len(selected) + 1 >= n:  # nothing to merge
            kept += [frame * n + token for token in range(n)]
            merged += list(x)
            continue
        for centre in selected:
            cosine = torch.cosine_similarity(key[centre], key, dim=-1)
            cosine[centre] = -torch.inf
            near = cosine.argsort(descending=True, stable=True)[:NEIGHBOURS]
            merged.append(x[centre] + (a[near].unsqueeze(-1) * x[near]).sum(0))
        rest = [token for token in range(n) if token not in selected]
        merged.append((a[rest].unsqueeze(-1) * x[rest]).sum(0))
        selected.append(max(rest, key=lambda token: float(a[token])))  # the slot of the extra token
        kept += [frame * n + token for token in selected]
    return kept, torch.stack(merged)


def _outliers(attention: Tensor) -> list[int]:
    """Tokens above the third quartile plus one and a half interquartile ranges, at least one.

    In descending attention.
    """
    first, third = torch.quantile(
        attention.double(), torch.tensor([0.25, 0.75], dtype=torch.double)
    ).tolist()
    fence = third + 1.5 * (third - first)
    number = max(1, sum(value > fence for value in attention.tolist()))
    return attention.argsort(descending=True, stable=True)[:number].tolist()


def visionzip(
    features: Tensor, saliency: Tensor, keys: Tensor, budget: list[int]
) -> tuple[list[int], Tensor]:
    """VisionZip: features [f, n, d], saliency [f, n], keys [f, n, k], tokens a frame keeps."""
    kept, merged = [], []
    frames, n, _ = features.shape
    for frame in range(frames):
        x, key = features[frame], keys[frame]
        dominant = 6 * budget[frame] // 7
        contextual = budget[frame] - dominant
        top = sorted(saliency[frame].argsort(descending=True, stable=True)[:dominant].tolist())
        kept += [frame * n + token for token in top]
        merged += [x[token] for token in top]
        if contextual == 0:
            continue
        rest = [token for token in range(n) if token not in top]
        unit = {token: key[token] / key[token].norm() for token in rest}
        targets = rest[:: max(1, len(rest) // contextual)][:contextual]
        followers: dict[int, list[int]] = {target: [] for target in targets}
        for token in rest:
            if token not in followers:
                nearest = max(targets, key=lambda target: float(unit[token] @ unit[target]))
                followers[nearest].append(token)
        for target in targets:
            mean = x[followers[target]].mean(0) if followers[target] else 0
            merged.append(x[target] + mean)
        kept += [frame * n + target for target in targets]
    return kept, torch.stack(merged)


def dycoke(
    features: Tensor, merge: float, budget: list[int] | None = None
) -> tuple[list[int], Tensor]:
    """DyCoke's temporal merging: features [f, n, d]; of four frames the first stays whole.

    With `budget`, how many tokens an allocator gives each frame. An anchor that it cuts is ranked
    against the anchor before, the first one against the next frame.
    """
    frames, n, _ = features.shape
    number = int((1 - merge) * n)
    kept, rows = [], []
    for frame in range(frames):
        place = frame % WINDOW
        keep = budget[frame] if budget is not None else n if place == 0 else number
        tokens = list(range(n))
        if keep < n:
            if place == 0:
                reference = frame - WINDOW if frame > 0 else 1
            else:
                reference = frame - 1 if place in (1, 3) else frame - 2
            similar = [
                float(
                    torch.cosine_similarity(
                        features[frame, token], features[reference, token], dim=0
                    )
                )
                for token in range(n)
            ]
            tokens = sorted(sorted(range(n), key=lambda token: similar[token])[:keep])
        kept += [frame * n + token for token in tokens]
        rows += [features[frame, token] for token in tokens]
    return kept, torch.stack(rows)


def fastv(attention: Tensor, frame: Tensor, drop: float) -> list[int]:
    """FastV's selection: the last row's attention [s], and the frame of every row, -1 on text."""
    visual = [row for row in range(len(frame)) if frame[row] != TEXT]
    number = round(len(visual) * (1 - drop))
    top = set(sorted(visual, key=lambda row: -float(attention[row]))[:number])
    return [row for row in range(len(frame)) if frame[row] == TEXT or row in top]


def apportion(weights: Tensor, total: int, cap: Tensor) -> Tensor:
    """DyToK's allocation, Algorithm 1 and section 3.3: weights [f], most tokens of a frame [f]."""
    ideal = weights / weights.sum() * total
    share = ideal.floor().long()
    remainder = ideal - share
    left = total - int(share.sum())
    while left > 0:
        for frame in remainder.argsort(descending=True, stable=True):
            if left > 0 and share[frame] < cap[frame]:
                share[frame] += 1
                left -= 1
    excess = int((share - cap).clamp(min=0).sum())
    share = share.minimum(cap)
    while excess > 0:
        for frame in weights.argsort(descending=True, stable=True):
            if excess > 0 and share[frame] < cap[frame]:
                share[frame] += 1
                excess -= 1
    return share


def frame_weights(queries: Tensor, keys: Tensor, frames: int) -> Tensor:
    """DyToK's frame weights: last queries [l, h, e], visual keys [l, g, f * n, e] of layers."""
    layers, heads, width = queries.shape
    shared = heads // keys.shape[1]
    weights = torch.zeros(frames)
    for layer in range(layers):
        attention = torch.zeros(keys.shape[2])
        for head in range(heads):
            scores = keys[layer, head // shared] @ queries[layer, head] / width**0.5
            attention += scores.softmax(0) / heads
        for frame, tokens in enumerate(attention.chunk(frames)):
            weights[frame] += tokens.mean() / layers
    return weights / weights.sum()
