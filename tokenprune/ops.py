"""Pure tensor maths of several strategies: torch only, no model, no state, no loop over tokens.

Axes: `n` tokens, `f` frames, `m` slots of the padded per-frame layout, `d` width.
Scores are float32, ties go to the lower index, every ratio becomes a number in `count`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn import functional

from tokenprune import hosted
from tokenprune.apportioning import apportioned
from tokenprune.ragged import by_frame as by_frame
from tokenprune.ragged import by_row, cells, real, starts, widest

Rounding = Literal["even", "down", "up"]


@overload
def count(n: int, keep: float, rounding: Rounding = "even", times: float = 1.0) -> int: ...
@overload
def count(
    n: Tensor, keep: float | Tensor, rounding: Rounding = "even", times: float = 1.0
) -> Tensor: ...
def count(
    n: int | Tensor, keep: float | Tensor, rounding: Rounding = "even", times: float = 1.0
) -> int | Tensor:
    """How many of `n` tokens a kept fraction means: the one place where a ratio becomes a number.

    `"even"` rounds half to even, so `count(n, k / n) == k` for every k; FastV's released rule and
    the default. `"down"` truncates the double-precision product, DyCoke's published `int((1 - K) *
    n)`: where the product is not exact in binary it loses one, `count(100, 1 - 0.55, "down") ==
    44`, and the published counts contain that loss. `"up"` is the ceiling of that product, which
    may gain one the same way.

    `times` multiplies the product last, at most to all `n`. A tensor of doubles is a fraction for
    each entry.
    """
    if not isinstance(keep, Tensor) and not 0.0 <= keep <= 1.0:
        raise ValueError(f"a kept fraction lies between 0 and 1, got {keep}")
    if isinstance(n, Tensor):
        known = None if isinstance(keep, Tensor) else hosted.known(n)
        if known is not None:
            counted: Any = partial(count, keep=keep, rounding=rounding, times=times)
            return hosted.sent([*map(counted, known)], n.device)
        exact = n.double() * keep * times
        rounded = {"even": exact.round, "down": exact.trunc, "up": exact.ceil}[rounding]()
        return rounded.long().minimum(n)
    product = n * float(keep) * times
    return min(n, {"even": round, "down": int, "up": math.ceil}[rounding](product))


def fraction(name: str, value: float | None) -> None:
    """Raises ValueError unless the hyper-parameter `name` is a fraction, or None (adaptive)."""
    if value is not None and not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value} is not a fraction: write a number from 0 to 1")


def solve(
    rises: Callable[[float], float], target: float, low: float = 0.0, high: float = 1.0
) -> float:
    """The smallest number, to the last bits, at which `rises` reaches `target`, or else `high`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) >= target else (middle, high)
    return high


def ranking(
    scores: Float[Tensor, "*b n"], valid: Bool[Tensor, "*b n"] | None = None
) -> Int[Tensor, "*b n"]:
    """Indices of every row from the largest score to the smallest; ties by lower index.

    What is not `valid` comes behind all others, also behind those with a score of minus infinity.
    """
    return _masked(scores, valid).argsort(dim=-1, descending=True, stable=True)


def _masked(
    scores: Float[Tensor, "*b n"], valid: Bool[Tensor, "*b n"] | None
) -> Float[Tensor, "*b n"]:
    if valid is None or hosted.all_true(valid):
        return scores.float()
    lowest = torch.finfo(torch.float32).min  # still above what is not valid
    return scores.float().clamp(min=lowest).masked_fill(~valid, -torch.inf)


def ranking_by_tier(
    tier: Integer[Tensor, "*b n"], scores: Float[Tensor, "*b n"]
) -> Int[Tensor, "*b n"]:
    """Indices of every row from the lowest tier to the highest, in each as `ranking` has them."""
    order = ranking(scores)
    by_tier = tier.gather(-1, order).argsort(dim=-1, stable=True)
    return order.gather(-1, by_tier)


def marked(mask: Bool[Tensor, "*b n"], number: int) -> Int[Tensor, "*b number"]:
    """Indices of the `number` entries of each row that are true, in order.

    The caller knows how many there are, so that nothing waits for the device as `nonzero` does.
    """
    if mask.ndim == 1 and mask.device.type == "cpu":
        return hosted.note_ascending(torch.nonzero_static(mask, size=number).squeeze(-1))
    rows = mask.argsort(dim=-1, descending=True, stable=True)[..., :number]
    return hosted.note_ascending(rows) if mask.ndim == 1 else rows


def keep_top(
    scores: Float[Tensor, "*b n"],
    k: int | Int[Tensor, "*b"],
    valid: Bool[Tensor, "*b n"] | None = None,
) -> Bool[Tensor, "*b n"]:
    """Marks exactly `k` entries of each row, those with the largest score (ties: lower index).

    `k` may vary by row.
    """
    if isinstance(k, int) and scores.ndim == 1:
        first = ranking(scores, valid)[:k]
        return torch.zeros_like(scores, dtype=torch.bool).index_fill(0, first, True)
    if isinstance(k, int) and 0 < k < scores.shape[-1]:  # one bar for each row, and no order
        scores = _masked(scores, valid).nan_to_num(torch.inf, torch.inf, -torch.inf)
        bar = scores.topk(k, sorted=False).values.amin(-1, keepdim=True)
        above, level = scores > bar, scores == bar
        return above | (level & (level.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    return first_of(ranking(scores, valid), k)


def first_of(order: Int[Tensor, "*b n"], k: int | Int[Tensor, "*b"]) -> Bool[Tensor, "*b n"]:
    """Marks the first `k` entries of each `order`, which has every index of its row once."""
    number = k if isinstance(k, int) else k.unsqueeze(-1)
    first = torch.arange(order.shape[-1], device=order.device) < number
    if first.shape != order.shape:
        first = first.expand_as(order)
    return first.scatter(-1, order, first)  # which writes every entry


def evenly_spaced(valid: Bool[Tensor, "f m"], budget: Int[Tensor, "f"]) -> Bool[Tensor, "f m"]:
    """Marks `budget[f]` of the valid entries, in the centres of as many equal intervals."""
    count, place = valid.sum(-1, keepdim=True).clamp(min=1), valid.cumsum(-1)
    ends = 2 * budget.unsqueeze(-1) * torch.stack([place - 1, place])
    before, upto = (ends + count - 1) // (2 * count)  # numbers of centres before and up to an entry
    return valid & (before < upto)


def spaced_rows(counts: Int[Tensor, "f"], budget: Int[Tensor, "f"]) -> Int[Tensor, "k"]:
    """Row numbers of `budget[f]` evenly spaced rows of each frame, as `evenly_spaced` has them."""
    there, asked, device = hosted.numbers(counts), hosted.numbers(budget), counts.device
    if len({*there}) == len({*asked}) == 1 and asked[0]:
        place = torch.arange(1, 2 * asked[0], 2, device=device) * there[0] // (2 * asked[0])
        first = torch.arange(0, sum(there), there[0], device=device).unsqueeze(-1)
        return (first + place).flatten()
    valid = real(counts, widest(counts))
    return marked(by_row(evenly_spaced(valid, budget), counts), sum(asked))


def outliers(scores: Float[Tensor, "f m"], valid: Bool[Tensor, "f m"]) -> Int[Tensor, "f"]:
    """How many scores of each frame lie above `Q3 + 1.5 (Q3 - Q1)`; at least one."""
    if hosted.all_true(valid):
        ordered, last = scores.double().sort().values, scores.shape[1] - 1
        first, third = (_between(ordered, last * share) for share in (0.25, 0.75))
        return (ordered > third + 1.5 * (third - first)).sum(-1).clamp(min=1)
    real = scores.double().masked_fill(~valid, torch.nan)
    quarters = hosted.moved(torch.tensor([0.25, 0.75], dtype=real.dtype), real.device)
    first, third = torch.nanquantile(real, quarters, dim=-1)
    fence = third + 1.5 * (third - first)
    return (real > fence.unsqueeze(-1)).sum(-1).clamp(min=1)


def _between(ordered: Float[Tensor, "f m"], place: float) -> Float[Tensor, "f 1"]:
    """What stands at a place of ascending rows, as torch interpolates for a quantile."""
    low, high = math.floor(place), math.ceil(place)
    return ordered[:, low : low + 1].lerp(ordered[:, high : high + 1], place - low)


def cosine(a: Float[Tensor, "*b d"], b: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """Cosine of the last axis in float32; 0 where a vector is all zero, exactly 1 where both are
    equal.
    """
    a, b = a.float(), b.float()
    return cosine_of((a * b).sum(-1), a.square().sum(-1), b.square().sum(-1))


def cosine_of(
    product: Float[Tensor, "*b"], a_squared: Float[Tensor, "*b"], b_squared: Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """The cosine of two vectors from their inner product and squared norms."""
    norms = (a_squared * b_squared).sqrt().clamp(min=torch.finfo(product.dtype).tiny)
    return (product / norms).clamp(-1, 1)


def attended(
    queries: Float[Tensor, "r h e"],
    keys: Float[Tensor, "s g e"],
    scale: float,
    rows: Int[Tensor, "r"],
    heads: Literal["mean", "max"] = "mean",
) -> Float[Tensor, "s"]:
    """Attention of `rows` of a sequence, each its causal softmax over the keys, in float32.

    Mean over rows and query heads, or the largest of any of them. Zeros if no row asks.
    """
    if not len(rows):
        return keys.new_zeros(len(keys), dtype=torch.float32)
    later = torch.arange(len(keys), device=keys.device) > rows.unsqueeze(-1)
    keys = keys.float().permute(1, 2, 0)  # [g e s]
    by_head = queries.float().transpose(0, 1)  # those that share a key head side by side
    scores = torch.bmm(by_head.reshape(len(keys), -1, keys.shape[1]), keys).mul_(scale)
    weights = scores.view(-1, *later.shape).masked_fill_(later, -torch.inf).softmax(dim=-1)
    return weights.mean(dim=(0, 1)) if heads == "mean" else weights.amax(dim=(0, 1))


def apportion(
    weights: Float[Tensor, "f"],
    total: int,
    cap: Int[Tensor, "f"],
    follow: Literal["paper", "released"] = "paper",
) -> Int[Tensor, "f"]:
    """Splits exactly `total` tokens over frames in proportion to `weights`, at most `cap[f]` each.

    Largest remainder first, then what exceeds a cap goes in turns of one to the frames below
    theirs, by weight (DyToK, Algorithm 1 and section 3.3). `"released"` hands out the remainders
    before it looks at the cap, as the authors' code does; the two differ only where a cap binds.

    Raises ValueError for weights that are negative, not finite or all zero, and for a total the
    caps cannot hold.
    """
    numbers = hosted.numbers(weights.float()), total, hosted.numbers(cap), follow
    return hosted.sent(apportioned(*numbers), cap.device)


def evenly(total: int, cap: Int[Tensor, "f"]) -> Int[Tensor, "f"]:
    """`total` tokens spread over frames as evenly as their capacities allow."""
    return hosted.sent(apportioned([1.0] * len(cap), total, hosted.numbers(cap)), cap.device)


def top_rows(
    scores: Float[Tensor, "f m"], counts: Int[Tensor, "f"], budget: Int[Tensor, "f"]
) -> Int[Tensor, "k"]:
    """Row numbers, in order, of the `budget[f]` largest scores of each frame; ties: lower index.

    `scores` are rows by frame, as `by_frame` has them.
    """
    asked, width, there = hosted.numbers(budget), scores.shape[1], hosted.total(counts)
    if there == scores.numel() and len({*asked}) == 1:
        first = torch.arange(0, there, width, device=scores.device).unsqueeze(-1)
        order = ranking(scores)[:, : asked[0]].sort().values
        return (order + first).flatten()
    valid = None if there == scores.numel() else real(counts, width)
    return marked(by_row(keep_top(scores, budget, valid), counts), sum(asked))


def leading(
    order: Int[Tensor, "f m"], counts: Int[Tensor, "f"], budget: Int[Tensor, "f"]
) -> Int[Tensor, "k"]:
    """Row numbers of the first `budget[f]` entries of each frame's `order`, frame after frame."""
    asked = hosted.numbers(budget)
    rows = order + starts(counts).unsqueeze(-1)
    if len({*asked}) == 1:
        return rows[:, : asked[0]].flatten()
    return rows.flatten().index_select(0, cells(budget, order.shape[1]))


def pool2d(
    maps: Float[Tensor, "f p d"],
    mode: Literal["bilinear", "average", "max"],
    stride: int = 2,
) -> Float[Tensor, "f q d"]:
    """LLaVA-NeXT's 2-D pooling of square maps.

    Bilinear to ceil(side / stride), or average or maximum of whole squares of `stride`.
    """
    side = math.isqrt(maps.shape[1])
    grid = maps.transpose(1, 2).unflatten(2, (side, side))
    if mode == "bilinear":
        short = math.ceil(side / stride)
        pooled = functional.interpolate(grid, size=(short, short), mode="bilinear")
    elif mode == "average":
        pooled = functional.avg_pool2d(grid, stride)
    else:
        pooled = functional.max_pool2d(grid, stride)
    return pooled.flatten(2).transpose(1, 2)
