"""The methods of `naive_video.py` as somebody who knows torch writes them for one video.

See `careful.py`: a loop over segments and frames, in which everything else is one call.
"""

from __future__ import annotations

import math

import torch
from naive_video import _consecutive as consecutive
from torch import Tensor
from torch.nn import functional


def peaks(x: Tensor, number: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """Density peaks: the centres in descending score, and which of them each token joins."""
    x = x - x.mean(0)  # rounds less
    distance = torch.cdist(x, x).div_(x.shape[1] ** 0.5).fill_diagonal_(0)
    near = distance.topk(min(neighbours, len(x)), largest=False).values
    density = (-near.square().mean(1)).exp()
    rank = density.argsort(descending=True, stable=True).argsort()
    denser = rank < rank.unsqueeze(1)
    apart = distance.masked_fill(~denser, torch.inf).amin(1).clamp(max=distance.max())
    centre = (density * apart).argsort(descending=True, stable=True)[:number]
    member = distance[:, centre].argmin(1)
    member[centre] = torch.arange(len(centre))
    return centre, member


def means(x: Tensor, member: Tensor, number: int) -> Tensor:
    """The mean of the tokens of each cluster."""
    sums = torch.zeros(number, x.shape[1]).index_add_(0, member, x)
    return sums / member.bincount(minlength=number).unsqueeze(1)


def holitom(
    features: Tensor, saliency: Tensor, keep: float, similarity: float, neighbours: int
) -> tuple[list[int], Tensor]:
    """HoliTom's outer stage."""
    frames, n, _ = features.shape
    same = torch.cosine_similarity(features[1:], features[:-1], dim=-1) > similarity
    best, last = [0], []
    for end in range(1, frames + 1):
        still, value, choice = torch.ones(n, dtype=torch.bool), best[end - 1], 1
        for length in range(2, end + 1):
            still = still & same[end - length]
            saved = best[end - length] + (length - 1) * int(still.sum())
            if saved > value:
                value, choice = saved, length
        best.append(value)
        last.append(choice)
    ratio = min(keep / ((frames * n - best[-1]) / (frames * n)), 1.0)
    rows, values, end = [], [], frames
    while end > 0:
        start = end - last[end - 1]
        still = same[start : end - 1].all(0) & torch.tensor(end - start > 1)
        static = still.nonzero().squeeze(1)
        if number := round(len(static) * ratio):
            mean = features[start:end, static].mean(0)
            centre, member = peaks(mean, number, min(neighbours, number))
            rows.append(start * n + static[centre])
            values.append(means(mean, member, number))
        number = math.ceil((n - len(static)) * ratio)
        top = saliency[start:end].masked_fill(still, -torch.inf).topk(number).indices
        top = (top + n * torch.arange(start, end).unsqueeze(1)).flatten()
        rows.append(top)
        values.append(features.flatten(0, 1)[top])
        end = start
    return in_order(rows, values)


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
    """FastVID."""
    n, rows, values = features.shape[1], [], []
    for inside in parts(features.mean(1), similarity, segments):
        length, begin = len(inside), inside[0]
        total = int(keep * n) * length
        anchored = int(total * context)
        groups = math.ceil(length / stride)
        left = torch.ones(length, n, dtype=torch.bool)
        for turn, frame in enumerate(inside):
            number = (total - anchored) // length + (turn < (total - anchored) % length)
            left[turn, saliency[frame].argsort(descending=True, stable=True)[:number]] = False
        kept = (~left).flatten().nonzero().squeeze(1) + begin * n
        rows.append(kept)
        values.append(features.flatten(0, 1)[kept])
        pool, flat = features[begin : begin + length][left], left.flatten().cumsum(0) - 1
        unit = functional.normalize(pool, dim=-1)
        for group, frame in enumerate(inside[::-1][::stride]):
            number = anchored // groups + (group < anchored % groups)
            free = left[frame - begin].nonzero().squeeze(1)
            anchor = free[peaks(features[frame, free], number, neighbours)[0]].sort().values
            place = flat[(frame - begin) * n + anchor]
            nearest = (unit @ unit[place].T).argmax(1)
            nearest[place] = number
            sums = torch.zeros(number + 1, pool.shape[1]).index_add_(0, nearest, pool)[:-1]
            joined = nearest.bincount(minlength=number + 1)[:-1].unsqueeze(1)
            own = (1 / (joined + 1)).clamp(min=beta).masked_fill(joined == 0, 1)
            rows.append(frame * n + anchor)
            values.append(own * pool[place] + (1 - own) * sums / joined.clamp(min=1))
    return in_order(rows, values)


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
    """FlashVID's first stage."""
    n, width = features.shape[1:]
    budget = min(n, math.ceil(n * keep * expansion))
    chosen = math.ceil(budget * alpha)
    mean, unit = features.mean(1), functional.normalize(features, dim=-1)
    rows, values = [], []
    for inside in parts(mean, transition, segments):
        whole, free = mean[inside].sum(0), torch.ones(len(inside), n, dtype=torch.bool)
        for turn, frame in enumerate(inside):
            weight = saliency[frame] * (features[frame] @ whole)
            picked = picks(unit[frame], weight, chosen)
            free[turn, picked] = False
            rows.append(frame * n + torch.tensor(picked))
            values.append(features[frame, picked])
        total, least = n * len(inside), budget * len(inside)
        best, parent = torch.full((len(inside), n), -torch.inf), torch.zeros(len(inside), n).long()
        for turn, frame in list(enumerate(inside))[1:]:
            cosine = (unit[frame] @ unit[frame - 1].T).masked_fill_(~free[turn - 1], -torch.inf)
            best[turn], parent[turn] = cosine.max(1)
            best[turn].masked_fill_(~free[turn], -torch.inf)
        made = best >= similarity
        if total - int(made.sum()) < least:
            order = best.flatten().argsort(descending=True, stable=True)[: total - least - 1]
            made = torch.zeros(total, dtype=torch.bool).index_fill_(0, order, True).view_as(best)
        root = torch.arange(total).view_as(best)
        for turn in range(1, len(inside)):
            root[turn] = torch.where(made[turn], root[turn - 1, parent[turn]], root[turn])
        member = root[free]
        sums = torch.zeros(total, width).index_add_(0, member, features[inside][free])
        size = member.bincount(minlength=total)
        share = min(1.0, (budget - chosen) * len(inside) / max(1, int((size > 0).sum())))
        for turn, frame in enumerate(inside):
            own = size[turn * n : (turn + 1) * n]
            cells = own.nonzero().squeeze(1)
            if not len(cells):
                continue
            value = sums[turn * n + cells] / own[cells].unsqueeze(1)
            number = math.ceil(len(cells) * share)
            centre, joined = peaks(value, number, min(7, number))
            rows.append(frame * n + cells[centre])
            values.append(means(value, joined, number))
    return in_order(rows, values)


def picks(unit: Tensor, weight: Tensor, number: int) -> list[int]:
    """ADTS of one frame."""
    far = (1 - unit @ unit.T) * weight
    near, picked = far.clone().fill_diagonal_(torch.inf).amin(0), []
    while len(picked) < number:
        pick = int(near.argmax())
        near = torch.minimum(near, far[pick]) if picked else far[pick].clone()
        picked.append(pick)
        near[picked] = -torch.inf
    return picked


def prunevid(
    features: Tensor, similarity: float, scenes: float, clusters: float
) -> tuple[list[int], Tensor]:
    """PruneVid's merging."""
    frames, n, _ = features.shape
    centre, member = peaks(features.mean(1), max(1, int(frames * scenes)), 7)
    labels = consecutive(centre[member].tolist())
    starts = [frame for frame in range(frames) if frame == 0 or labels[frame] != labels[frame - 1]]
    unit = functional.normalize(features, dim=-1)
    rows, values = [], []
    for start, end in zip(starts, [*starts[1:], frames], strict=True):
        length, still = end - start, torch.zeros(n, dtype=torch.bool)
        if length > 1:
            both = unit[start:end].sum(0).square().sum(-1) - length  # all pairs, none with itself
            still = both / (length * (length - 1)) >= similarity
        static, moving = still.nonzero().squeeze(1), (~still).nonzero().squeeze(1)
        groups = [(start, static, features[start:end, static].mean(0))]
        groups += [(frame, moving, features[frame, moving]) for frame in range(start, end)]
        for frame, cells, value in groups:
            if len(cells) > 14:
                number = max(1, int(len(cells) * clusters))
                centre, member = peaks(value, number, 7)
                cells, value = cells[centre], means(value, member, number)
            rows.append(frame * n + cells)
            values.append(value)
    return in_order(rows, values)


def framefusion(features: Tensor, cost: float, similarity: float) -> tuple[list[int], Tensor]:
    """FrameFusion's event at the input."""
    frames, n, width = features.shape
    alike = torch.cosine_similarity(features[1:], features[:-1], dim=-1)
    hit, most = alike >= similarity, int((1 - cost) * frames * n)
    if int(hit.sum()) >= most:
        order = alike.T.flatten().argsort(descending=True, stable=True)[:most]
        hit = torch.zeros(alike.numel(), dtype=torch.bool).index_fill_(0, order, True)
        hit = hit.view(n, -1).T
    root = torch.arange(frames * n).view(frames, n)
    for frame in range(1, frames):
        root[frame] = torch.where(hit[frame - 1], root[frame - 1], root[frame])
    size = root.flatten().bincount(minlength=frames * n)
    sums = torch.zeros(frames * n, width).index_add_(0, root.flatten(), features.flatten(0, 1))
    rows = size.nonzero().squeeze(1)
    return rows.tolist(), sums[rows] / size[rows].unsqueeze(1)


def parts(mean: Tensor, threshold: float, least: int) -> list[list[int]]:
    """Consecutive frames, cut where means differ."""
    alike = torch.cosine_similarity(mean[:-1], mean[1:], dim=-1)
    number = max(int((alike < threshold).sum()), min(least - 1, len(alike)))
    cuts = (alike.argsort(stable=True)[:number].sort().values + 1).tolist()
    return [[*range(a, b)] for a, b in zip([0, *cuts], [*cuts, len(mean)], strict=True)]


def in_order(rows: list[Tensor], values: list[Tensor]) -> tuple[list[int], Tensor]:
    kept, order = torch.cat(rows).sort()
    return kept.tolist(), torch.cat(values)[order]
