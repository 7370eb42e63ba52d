"""More methods between projector and language model, word by word as their descriptions read.

See `naive.py`: features [f, n, d], saliency [f, n], text [t, d]. Every method returns what it keeps
as numbers, `frame * n + token` in output order, and their features.
"""

from __future__ import annotations

import torch
from torch import Tensor

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)


def divprune(features: Tensor, keep: float) -> tuple[list[int], Tensor]:
    """DivPrune: all tokens of the video compete; each pick looks at all picks again."""
    x = features.flatten(0, 1)
    unit = x / x.norm(dim=-1, keepdim=True)
    distance = 1 - unit @ unit.T
    nearest = []
    for token in range(len(x)):
        others = distance[token].clone()
        others[token] = torch.inf
        nearest.append(float(others.min()))
    kept = [max(range(len(x)), key=lambda token: nearest[token])]
    for _ in range(round(keep * len(x)) - 1):
        near = distance[kept].min(0).values
        near[kept] = -torch.inf
        kept.append(int(near.argmax()))
    kept.sort()
    return kept, x[kept]


def cdpruner(features: Tensor, text: Tensor, keep: float) -> tuple[list[int], Tensor]:
    """CDPruner: relevance to every text, then of every frame the picks, one product at a time."""
    frames, n, _ = features.shape
    relevance = torch.zeros(frames, n)
    for frame in range(frames):
        for word in text:
            cosine = torch.cosine_similarity(features[frame], word, dim=-1)
            relevance[frame] += cosine / len(text)
    least, most = relevance.min(), relevance.max()
    relevance = (relevance - least + 1e-6) / (most - least)
    kept = []
    for x, r, frame in zip(features, relevance, range(frames), strict=True):
        gain, basis, chosen = r * r, [], []
        for _ in range(round(keep * n)):
            best = int(gain.argmax())
            row = r * torch.cosine_similarity(x, x[best], dim=-1) * r[best]
            for earlier in basis:
                row = row - earlier[best] * earlier
            new = row / gain[best].clamp(min=1e-12).sqrt()
            basis.append(new)
            chosen.append(best)
            gain = gain - new * new
            gain[chosen] = -torch.inf
        kept += [frame * n + token for token in sorted(chosen)]
    return kept, features.flatten(0, 1)[kept]


def vispruner(
    features: Tensor, saliency: Tensor, keep: float, important: float
) -> tuple[list[int], Tensor]:
    """VisPruner: rounds in which every second token looks for its twin among those between."""
    frames, n, _ = features.shape
    number = round(keep * n)
    first = int(number * important)
    kept = []
    for frame in range(frames):
        x = features[frame]
        order = saliency[frame].argsort(descending=True, stable=True).tolist()
        rest, wanted = order[first:], number - first
        while wanted > 0 and len(rest) > wanted:
            less = min(8, len(rest) - wanted, len(rest) // 2)
            even, odd = rest[::2], rest[1::2]
            twin = {}
            for token in even:
                twin[token] = float(torch.cosine_similarity(x[odd], x[token], dim=-1).max())
            rest = sorted(even, key=lambda token: -twin[token])[less:] + odd
        chosen = order[:first] + (rest if wanted else [])
        kept += [frame * n + token for token in sorted(chosen)]
    return kept, features.flatten(0, 1)[kept]


def vidcom2(features: Tensor, keep: float, temperature: float) -> tuple[list[int], Tensor]:
    """VidCom2 as released: kernels between unit vectors of quiet channels and their means."""
    frames, n, width = features.shape
    x = features.flatten(0, 1)
    variance = x.var(0, correction=0).tolist()
    channels = sorted(range(width), key=lambda channel: variance[channel])[: width // 2]
    y = x[:, channels]
    y = y / y.norm(dim=-1, keepdim=True)
    whole, y = y.mean(0), y.unflatten(0, (frames, n))
    like_video, like_frame = torch.zeros(frames, n), torch.zeros(frames, n)
    for frame in range(frames):
        own = y[frame].mean(0)
        for token in range(n):
            like_video[frame, token] = _kernel(y[frame, token], whole)
            like_frame[frame, token] = _kernel(y[frame, token], own)
    unusual = -like_video.mean(1)
    weight = ((unusual - unusual.max()) / temperature).softmax(0)
    kept = []
    for frame in range(frames):
        rate = min(1.0, float(keep * (1 + weight[frame] - weight.mean())))
        number = max(1, round(rate * n))
        score = like_video[frame] + like_frame[frame]
        chosen = score.argsort(stable=True)[:number].tolist()
        kept += [frame * n + token for token in sorted(chosen)]
    return kept, x[kept]


def _kernel(a: Tensor, b: Tensor) -> float:
    distance = float((a - b).square().sum())
    return sum(float(torch.tensor(-distance / (2 * width)).exp()) for width in WIDTHS)
