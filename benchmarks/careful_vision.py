"""The methods of `naive_vision.py` as somebody who knows torch writes them for one video.

See `careful.py`: a loop over frames, or over picks, in which everything else is one call.
"""

from __future__ import annotations

import torch
from naive_vision import WIDTHS
from torch import Tensor
from torch.nn import functional


def divprune(features: Tensor, keep: float) -> tuple[list[int], Tensor]:
    """DivPrune, with all distances of the video in one matrix."""
    x = features.flatten(0, 1)
    unit = functional.normalize(x, dim=-1)
    distance = (unit @ unit.T).neg_().add_(1)
    lonely = distance.fill_diagonal_(torch.inf).amin(0)
    kept = [int(lonely.argmax())]
    near = distance[kept[0]].clone()
    near[kept] = -torch.inf
    for _ in range(round(keep * len(x)) - 1):
        kept.append(best := int(near.argmax()))
        near = torch.minimum(near, distance[best])
        near[best] = -torch.inf
    kept.sort()
    return kept, x[kept]


def cdpruner(features: Tensor, text: Tensor, keep: float) -> tuple[list[int], Tensor]:
    """CDPruner, with the kernel of a frame in one matrix."""
    _, n, _ = features.shape
    unit = functional.normalize(features, dim=-1)
    relevance = unit @ functional.normalize(text, dim=-1).mean(0)
    least, most = relevance.aminmax()
    relevance = (relevance - least + 1e-6) / (most - least)
    number, kept = round(keep * n), []
    for frame, (u, r) in enumerate(zip(unit, relevance, strict=True)):
        w = r.unsqueeze(-1) * u
        kernel = w @ w.T
        gain, basis, chosen = kernel.diagonal().clone(), torch.empty(number, n), []
        for pick in range(number):
            chosen.append(best := int(gain.argmax()))
            row = kernel[best] - basis[:pick, best] @ basis[:pick]
            basis[pick] = row / gain[best].clamp(min=1e-12).sqrt()
            gain -= basis[pick].square()
            gain[best] = -torch.inf
        kept += [frame * n + token for token in sorted(chosen)]
    return kept, features.flatten(0, 1)[kept]


def vispruner(
    features: Tensor, saliency: Tensor, keep: float, important: float
) -> tuple[list[int], Tensor]:
    """VisPruner, with the cosines of a frame in one matrix."""
    n = features.shape[1]
    number = round(keep * n)
    first, kept = int(number * important), []
    wanted = number - first
    for frame, (x, score) in enumerate(zip(features, saliency, strict=True)):
        unit = functional.normalize(x, dim=-1)
        cosine, order = unit @ unit.T, score.argsort(descending=True, stable=True)
        rest = order[first:]
        while 0 < wanted < len(rest):
            less = min(8, len(rest) - wanted, len(rest) // 2)
            even, odd = rest[::2], rest[1::2]
            twin = cosine[even][:, odd].amax(1)
            rest = torch.cat([even[twin.argsort(descending=True, stable=True)[less:]], odd])
        chosen = torch.cat([order[:first], rest[:wanted]])
        kept.append(frame * n + chosen.sort().values)
    rows = torch.cat(kept)
    return rows.tolist(), features.flatten(0, 1)[rows]


def vidcom2(features: Tensor, keep: float, temperature: float) -> tuple[list[int], Tensor]:
    """VidCom2 as released, frame by frame."""
    n, x = features.shape[1], features.flatten(0, 1)
    variance = (x - x.mean(0)).square_().mean(0)
    channels = variance.argsort(stable=True)[: x.shape[1] // 2].sort().values
    y = functional.normalize(x[:, channels], dim=-1)
    whole, doubled = y.mean(0), 2 * torch.tensor(WIDTHS)
    video, both = [], []
    for own in y.split(n):
        centres = torch.stack([whole, own.mean(0)])
        distance = (own.unsqueeze(1) - centres).square_().sum(-1, keepdim=True)
        alike = (-distance / doubled).exp_().sum(-1)
        video.append(alike[:, 0].mean())
        both.append(alike.sum(1))
    unusual = -torch.stack(video)
    weight = ((unusual - unusual.max()) / temperature).softmax(0)
    rates = (keep * (1 + weight - weight.mean())).clamp(max=1)
    numbers = (rates * n).round().long().clamp(min=1).tolist()
    kept = [
        frame * n + score.argsort(stable=True)[:number].sort().values
        for frame, (score, number) in enumerate(zip(both, numbers, strict=True))
    ]
    rows = torch.cat(kept)
    return rows.tolist(), x[rows]
