"""What `operators.py` measures: each operator and its references on the same inputs.

And how results are compared. Inputs have the sizes of LLaVA-OneVision and are made such that two
implementations agree on every decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import careful
import naive
import torch
from torch import Tensor

from tokenprune import ops
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.strategies.dytok import frame_weights
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.prumerge import PruMerge
from tokenprune.strategies.visionzip import VisionZip
from tokenprune.tokens import TEXT, LastRow, SequenceView, VisualTokens

# LLaVA-OneVision-7B, SigLIP before pooling
FRAMES, CELLS, WIDTH, PATCHES, TOWER = 32, 196, 3584, 729, 1152
SMALL = 896  # width of LLaVA-OneVision-0.5B
HEAD = 72  # width of one head of the tower, over whose heads VisionZip averages keys
SPARE = 8


class Case(NamedTuple):
    """One operator and its references: the naive and the careful loop, or a copy of the memory."""

    name: str
    size: str
    references: tuple[Callable[[], Any], ...]
    ours: Callable[[], Any]
    check: Callable[[Any, Any], None]  # raises where the result of a reference and ours differ


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def exact_keys(frames: int, cells: int, width: int) -> Tensor:
    """Integer vectors of random signs and norm 2048.

    Cosines are exact in float32 in any order of summation. Two implementations thus agree on every
    nearest neighbour, whatever they sum first, and on every tie.
    """
    sizes = torch.arange(width) * int(2048 * math.sqrt(2.98 / width)) // width
    sizes[:SPARE] = 0
    left = 2048**2 - int(sizes.square().sum())
    for column in range(SPARE):  # the rest as a sum of squares
        sizes[column] = math.isqrt(left)
        left -= int(sizes[column]) ** 2
    assert left == 0
    return sizes * (2.0 * torch.randint(0, 2, (frames, cells, width), generator=seeded(1)) - 1)


def video(
    features: Tensor, keys: Tensor | None = None, saliency: Tensor | None = None
) -> VisualTokens:
    """An uncompressed video from per-frame features, keys and saliency."""
    frames, cells, _ = features.shape
    return VisualTokens(
        features=features.flatten(0, 1),
        keys=None if keys is None else keys.flatten(0, 1),
        saliency=None if saliency is None else saliency.flatten(),
        frame=torch.arange(frames).repeat_interleave(cells),
        slot=torch.arange(cells).repeat(frames),
        frames=frames,
        cells=cells,
    )


def loops(method: str, *inputs: Any) -> tuple[Callable[[], Any], ...]:
    """The naive and the careful reference of a method."""
    return partial(getattr(naive, method), *inputs), partial(getattr(careful, method), *inputs)


def same_tokens(reference: tuple[list[int], Tensor], ours: VisualTokens) -> None:
    kept, features = reference
    assert (ours.frame * ours.cells + ours.slot).tolist() == kept
    torch.testing.assert_close(ours.features, features, rtol=1e-5, atol=1e-5)


def same_rows(reference: list[int], ours: Tensor) -> None:
    assert ours.nonzero().squeeze(-1).tolist() == reference


def same_counts(reference: Tensor, ours: Tensor) -> None:
    assert torch.equal(reference, ours)


def prumerge(frames: int, cells: int) -> Iterator[Case]:
    features = torch.randn(frames, cells, TOWER, generator=seeded(2))
    # about 8 % of a frame are outliers
    attention = torch.randn(frames, cells, generator=seeded(3)).exp() / cells
    keys = exact_keys(frames, cells, TOWER)
    tokens = video(features, keys, attention)
    for name, grid in (("PruMerge", False), ("PruMerge+", True)):
        strategy = PruMerge(grid=grid)
        yield Case(
            name,
            f"{frames} x {cells} x {TOWER}",
            loops("prumerge", features, keys, attention, grid),
            lambda strategy=strategy: strategy.compress(tokens, strategy.quota(tokens)),
            same_tokens,
        )


def visionzip(frames: int, cells: int) -> Iterator[Case]:
    saliency, keys = torch.rand(frames, cells, generator=seeded(5)), exact_keys(frames, cells, HEAD)
    strategy = VisionZip()
    for name, width in (("VisionZip", WIDTH), ("VisionZip, 0.5B", SMALL)):
        features = torch.randn(frames, cells, width, generator=seeded(4))
        tokens = video(features, keys, saliency)
        yield Case(
            name,
            f"{frames} x {cells} x {width}",
            loops("visionzip", features, saliency, keys, [round(strategy.keep * cells)] * frames),
            lambda tokens=tokens: strategy.compress(tokens, strategy.quota(tokens)),
            same_tokens,
        )


def dytok(frames: int, cells: int) -> Iterator[Case]:
    for name, number, cap in (
        ("DyToK allocation", frames, cells // 2),
        ("DyToK allocation, 128 frames", 4 * frames, cells // 2),
        ("DyToK allocation, cap of a whole frame", frames, cells),
    ):
        weights = torch.randn(number, generator=seeded(6)).mul(1.5).softmax(0)
        total, caps = cells // 4 * number, torch.full((number,), cap)
        yield Case(
            name,
            f"{total} tokens, at most {cap} a frame",
            loops("apportion", weights, total, caps),
            lambda weights=weights, total=total, caps=caps: ops.apportion(weights, total, caps),
            same_counts,
        )
    queries, keys = (
        torch.randn(8, *shape, generator=seeded(7)) for shape in ((14, 64), (2, frames * cells, 64))
    )
    frame = torch.arange(frames).repeat_interleave(cells)
    yield Case(
        "DyToK frame weights",
        f"8 layers, 14 heads, {frames * cells} tokens",
        loops("frame_weights", queries, keys, frames),
        lambda: frame_weights(LastRow(queries, keys), frame, frames),
        lambda reference, ours: torch.testing.assert_close(ours, reference),
    )


def fastv(frames: int, cells: int) -> Iterator[Case]:
    frame = torch.full((frames * cells + 64,), TEXT)
    frame[14 : 14 + frames * cells] = torch.arange(frames).repeat_interleave(cells)
    attention = torch.rand(len(frame), generator=seeded(8)).softmax(0)
    view, strategy = SequenceView(frame, torch.arange(len(frame)), attention, frames), FastV()
    yield Case(
        "FastV selection",
        f"{frames * cells} tokens and 64 of text",
        loops("fastv", attention, frame, strategy.drop),
        lambda: strategy.prune(view, strategy.quota(view)),
        same_rows,
    )


class Merging(NamedTuple):
    """DyCoke's temporal merging of one video, counting and writing the kept rows out included."""

    features: Tensor
    strategy: DyCoke
    tokens: VisualTokens
    even: Tensor  # a budget as of an allocator, as many for every frame: it cuts the anchors too

    @classmethod
    def of(cls, frames: int, cells: int) -> Merging:
        features, strategy = torch.randn(frames, cells, WIDTH, generator=seeded(9)), DyCoke()
        tokens = video(features)
        return cls(
            features,
            strategy,
            tokens,
            torch.full((frames,), int(strategy.quota(tokens).sum()) // frames),
        )

    def plain(self) -> VisualTokens:
        return self.strategy.compress(self.tokens, self.strategy.quota(self.tokens))

    def allocated(self) -> VisualTokens:
        return self.strategy.compress(self.tokens, self.even)


def dycoke(frames: int, cells: int) -> Iterator[Case]:
    merging, size = Merging.of(frames, cells), f"{frames} x {cells} x {WIDTH}"
    inputs = merging.features, merging.strategy.merge
    yield Case("DyCoke merging", size, loops("dycoke", *inputs), merging.plain, same_tokens)
    budgets = merging.even.tolist()
    yield Case(
        "DyCoke merging, allocated",
        size,
        loops("dycoke", *inputs, budgets),
        merging.allocated,
        same_tokens,
    )


def copies(frames: int = FRAMES, cells: int = CELLS) -> Iterator[Case]:
    """What is held against a copy of the input.

    What merging decides is checked in `dycoke`, what it writes here.
    """
    merging, size = Merging.of(frames, cells), f"{frames} x {cells} x {WIDTH}"
    rows = merging.tokens.features
    there = torch.empty_like(rows).fill_(0.0)

    def written(reference: Tensor, ours: VisualTokens) -> None:
        assert torch.equal(ours.features, reference[ours.frame * cells + ours.slot])

    for name, copy, ours in (
        ("DyCoke merging, against clone()", rows.clone, merging.plain),
        ("DyCoke merging, against a copy in place", partial(there.copy_, rows), merging.plain),
        ("DyCoke merging, allocated, against clone()", rows.clone, merging.allocated),
    ):
        yield Case(name, size, (copy,), ours, written)


def operators(frames: int = FRAMES, cells: int = CELLS, patches: int = PATCHES) -> Iterator[Case]:
    """The operators with their inputs, one after the other."""
    yield from dycoke(frames, cells)
    yield from prumerge(frames, patches)
    yield from visionzip(frames, cells)
    yield from dytok(frames, cells)
    yield from fastv(frames, cells)
