"""Methods inside the language model, word by word as their descriptions read: as published.

See `naive.py`: queries [s, h, e] and keys [s, g, e] of the layer below, hidden states [s, d], the
frame of every row [s], -1 on text. Every method returns the rows that live, in order; one that
merges, also what they have become.
"""

from __future__ import annotations

import torch
from naive import TEXT
from naive_video import peaks
from torch import Tensor


def attention(queries: Tensor, keys: Tensor, row: int) -> Tensor:
    """One row's attention, mean over heads; it sees itself and what stands before."""
    heads, width = queries.shape[1:]
    shared, total = heads // keys.shape[1], torch.zeros(len(keys))
    for head in range(heads):
        scores = keys[: row + 1, head // shared] @ queries[row, head] / width**0.5
        total[: row + 1] += scores.softmax(0) / heads
    return total


def pyramiddrop(queries: Tensor, keys: Tensor, frame: Tensor, keep: float) -> list[int]:
    """PyramidDrop's first event."""
    visual = [row for row in range(len(frame)) if frame[row] != TEXT]
    received = attention(queries, keys, len(frame) - 1)
    order = sorted(visual, key=lambda row: -float(received[row]))
    top = set(order[: int(len(visual) * keep)])
    return [row for row in range(len(frame)) if frame[row] == TEXT or row in top]


def dart(
    keys: Tensor, hidden: Tensor, frame: Tensor, keep: float, pivots: tuple[int, int]
) -> list[int]:
    """DART: pivots by the norm of their keys, and what resembles each of them least."""
    visual = [row for row in range(len(frame)) if frame[row] != TEXT]
    behind = range(visual[-1] + 1, len(frame))
    norm = [float(key.abs().sum()) for key in keys]
    chosen = sorted(visual, key=lambda row: -norm[row])[: pivots[0]]
    words = sorted(behind, key=lambda row: -norm[row])[: pivots[1]]
    kept, left = set(chosen), round(len(visual) * keep) - len(chosen)
    share = left // (len(chosen) + len(words))
    for turn, pivot in enumerate([*chosen, *words]):
        similar = {}
        for row in visual:
            if row not in kept:
                similar[row] = float(torch.cosine_similarity(hidden[row], hidden[pivot], dim=0))
        number = share if turn + 1 < len(chosen) + len(words) else left - share * turn
        kept |= set(sorted(similar, key=lambda row: similar[row])[:number])
    return [row for row in range(len(frame)) if frame[row] == TEXT or row in kept]


def sparsevlm(
    queries: Tensor, keys: Tensor, hidden: Tensor, inputs: Tensor, frame: Tensor, keep: float
) -> tuple[list[int], Tensor]:
    """SparseVLM's first event: raters, what they attend to, and a few tokens of the rest."""
    visual = [row for row in range(len(frame)) if frame[row] != TEXT]
    behind = [*range(visual[-1] + 1, len(frame))]
    likeness = torch.zeros(len(behind))
    for row in visual:
        likeness += (inputs[behind] @ inputs[row]).softmax(0) / len(visual)
    raters = [word for word, like in zip(behind, likeness, strict=True) if like > likeness.mean()]
    relation = torch.zeros(len(frame))
    for rater in raters:
        relation += attention(queries, keys, rater) / len(raters)
    order = sorted(visual, key=lambda row: -float(relation[row]))
    number = min(round(len(visual) * keep), len(visual) - 1)
    pool = int(0.3 * (len(visual) - number)) + 1
    pooled = order[number : number + pool]
    clusters = pool // 10 + 1
    centres, member = peaks(hidden[pooled], clusters, clusters)
    left = {row: hidden[row] for row in range(len(frame)) if frame[row] == TEXT}
    left |= {row: hidden[row] for row in order[:number]}
    for centre in centres:
        joined = [pooled[place] for place in range(pool) if member[place] == centre]
        left[pooled[centre]] = hidden[joined].mean(0)
    rows = sorted(left)
    return rows, torch.stack([left[row] for row in rows])
