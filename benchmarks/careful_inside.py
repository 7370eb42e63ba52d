"""The methods of `naive_inside.py` as somebody who knows torch writes them for one prompt."""

from __future__ import annotations

import torch
from careful_video import means, peaks
from naive import TEXT
from torch import Tensor
from torch.nn import functional


def attention(queries: Tensor, keys: Tensor, row: int) -> Tensor:
    """One row's attention, mean over heads."""
    seen = keys[: row + 1].transpose(0, 1)  # [g s e]
    grouped = queries[row].unflatten(0, (len(seen), -1))
    scores = grouped @ seen.mT / queries.shape[-1] ** 0.5
    return functional.pad(scores.softmax(-1).mean((0, 1)), (0, len(keys) - row - 1))


def pyramiddrop(queries: Tensor, keys: Tensor, frame: Tensor, keep: float) -> list[int]:
    """PyramidDrop's first event."""
    visual = (frame != TEXT).nonzero().squeeze(1)
    received = attention(queries, keys, len(frame) - 1)[visual]
    order = received.argsort(descending=True, stable=True)
    kept = frame == TEXT
    kept[visual[order[: int(len(visual) * keep)]]] = True
    return kept.nonzero().squeeze(1).tolist()


def dart(
    keys: Tensor, hidden: Tensor, frame: Tensor, keep: float, pivots: tuple[int, int]
) -> list[int]:
    """DART."""
    visual = (frame != TEXT).nonzero().squeeze(1)
    norm, kept = keys.abs().sum((1, 2)), frame == TEXT
    chosen = visual[norm[visual].argsort(descending=True, stable=True)[: pivots[0]]]
    last = int(visual[-1]) + 1
    words = last + norm[last:].argsort(descending=True, stable=True)[: pivots[1]]
    both = torch.cat([chosen, words])
    unit = functional.normalize(hidden, dim=-1)
    similar = (unit[both] @ unit.T).masked_fill_(kept, torch.inf)
    kept[chosen] = True
    left = round(len(visual) * keep) - len(chosen)
    share = left // len(both)
    for turn, row in enumerate(similar):
        number = share if turn + 1 < len(both) else left - share * turn
        row[kept] = torch.inf
        kept[row.argsort(stable=True)[:number]] = True
    return kept.nonzero().squeeze(1).tolist()


def sparsevlm(
    queries: Tensor, keys: Tensor, hidden: Tensor, inputs: Tensor, frame: Tensor, keep: float
) -> tuple[list[int], Tensor]:
    """SparseVLM's first event."""
    visual = (frame != TEXT).nonzero().squeeze(1)
    behind = torch.arange(int(visual[-1]) + 1, len(frame))
    likeness = (inputs[visual] @ inputs[behind].T).softmax(-1).mean(0)
    raters = behind[likeness > likeness.mean()].tolist()
    relation = torch.stack([attention(queries, keys, rater) for rater in raters]).mean(0)
    order = visual[relation[visual].argsort(descending=True, stable=True)]
    number = min(round(len(visual) * keep), len(visual) - 1)
    pool = int(0.3 * (len(visual) - number)) + 1
    pooled = order[number : number + pool]
    clusters = pool // 10 + 1
    centre, member = peaks(hidden[pooled], clusters, clusters)
    text = (frame == TEXT).nonzero().squeeze(1)
    rows, place = torch.cat([text, order[:number], pooled[centre]]).sort()
    made = means(hidden[pooled], member, clusters)
    return rows.tolist(), torch.cat([hidden[text], hidden[order[:number]], made])[place]
