"""Our operators against naive loops and against the memory: `python benchmarks/operators.py [THREADS]`.

Each operator runs on the same inputs as its reference in `naive.py`, must give the same result, and is timed in turns
with it. Temporal merging, which is bound by the memory, is also held against one copy of its input; it includes
counting and writing the kept rows out. A clone of that size asks the system for pages and so does merging; beside it
stands a copy into pages that are mapped already, which nothing that returns new tensors can keep up with. Times are
medians. Measure on idle cores: naive loops start threads most often, so that neighbours slow them most.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

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

FRAMES, CELLS, WIDTH, PATCHES, TOWER = 32, 196, 3584, 729, 1152  # LLaVA-OneVision-7B, SigLIP before pooling
SMALL = 896  # width of LLaVA-OneVision-0.5B
HEAD = 72  # width of one head of the tower, over whose heads VisionZip averages keys
SPARE = 8
ROUNDS = 7

# times faster than the reference, at least; an operator that is not here is shown without a claim
CLAIMS = {
    "PruMerge": 10.0,
    "PruMerge+": 10.0,
    "VisionZip": 10.0,
    "VisionZip, 0.5B": 10.0,
    "DyToK allocation": 5.0,
    "DyToK allocation, 128 frames": 5.0,
    "FastV selection": 5.0,
    "DyCoke merging, against clone()": 1.0,
}


class Case(NamedTuple):
    """One operator and its reference on the same inputs."""

    name: str
    size: str
    reference: Callable[[], Any]
    ours: Callable[[], Any]
    check: Callable[[Any, Any], None]  # raises where the two results differ


class Row(NamedTuple):
    name: str
    size: str
    reference: float  # ms
    ours: float  # ms

    @property
    def ratio(self) -> float:
        """How many times faster than the reference."""
        return self.reference / self.ours


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def exact_keys(frames: int, cells: int, width: int) -> Tensor:
    """Integer vectors of random signs and norm 2048: cosines are exact in float32 in any order of summation.

    Two implementations thus agree on every nearest neighbour, whatever they sum first, and on every tie.
    """
    sizes = torch.arange(width) * int(2048 * math.sqrt(2.98 / width)) // width
    sizes[:SPARE] = 0
    left = 2048**2 - int(sizes.square().sum())
    for column in range(SPARE):  # the rest as a sum of squares
        sizes[column] = math.isqrt(left)
        left -= int(sizes[column]) ** 2
    assert left == 0
    return sizes * (2.0 * torch.randint(0, 2, (frames, cells, width), generator=seeded(1)) - 1)


def video(features: Tensor, keys: Tensor | None = None, saliency: Tensor | None = None) -> VisualTokens:
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
    attention = torch.randn(frames, cells, generator=seeded(3)).exp() / cells  # about 8 % of a frame are outliers
    keys = exact_keys(frames, cells, TOWER)
    tokens = video(features, keys, attention)
    for name, grid in (("PruMerge", False), ("PruMerge+", True)):
        strategy = PruMerge(grid=grid)
        yield Case(
            name,
            f"{frames} x {cells} x {TOWER}",
            lambda grid=grid: naive.prumerge(features, keys, attention, grid),
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
            lambda x=features: naive.visionzip(x, saliency, keys, [round(strategy.keep * cells)] * frames),
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
            lambda weights=weights, total=total, caps=caps: naive.apportion(weights, total, caps),
            lambda weights=weights, total=total, caps=caps: ops.apportion(weights, total, caps),
            same_counts,
        )
    queries, keys = (torch.randn(8, *shape, generator=seeded(7)) for shape in ((14, 64), (2, frames * cells, 64)))
    frame = torch.arange(frames).repeat_interleave(cells)
    yield Case(
        "DyToK frame weights",
        f"8 layers, 14 heads, {frames * cells} tokens",
        lambda: naive.frame_weights(queries, keys, frames),
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
        lambda: naive.fastv(attention, frame, strategy.drop),
        lambda: strategy.prune(view, strategy.quota(view)),
        same_rows,
    )


def dycoke(frames: int, cells: int) -> Iterator[Case]:
    features = torch.randn(frames, cells, WIDTH, generator=seeded(9))
    tokens, strategy, size = video(features), DyCoke(), f"{frames} x {cells} x {WIDTH}"
    even = torch.full((frames,), int(strategy.quota(tokens).sum()) // frames)  # an allocator's budget cuts anchors too

    def merging() -> VisualTokens:
        return strategy.compress(tokens, strategy.quota(tokens))

    def same_kept(reference: list[int], ours: VisualTokens) -> None:
        same_tokens((reference, tokens.features[reference]), ours)

    def any_result(reference: Tensor, ours: VisualTokens) -> None:
        assert len(ours) <= len(reference)

    yield Case("DyCoke merging", size, lambda: naive.dycoke(features, strategy.merge), merging, same_kept)
    yield Case("DyCoke merging, against clone()", size, tokens.features.clone, merging, any_result)
    there = torch.empty_like(tokens.features).fill_(0.0)
    mapped = "DyCoke merging, against a copy in place"
    yield Case(mapped, size, lambda: there.copy_(tokens.features), merging, any_result)
    allocated = "DyCoke merging, allocated, against clone()"
    yield Case(allocated, size, tokens.features.clone, lambda: strategy.compress(tokens, even), any_result)


def cases(frames: int = FRAMES, cells: int = CELLS, patches: int = PATCHES) -> Iterator[Case]:
    """The operators with their inputs, one after the other."""
    # first what is held against clone(): later the allocator hands out pages of earlier operators, and a clone gets
    # what a process that meets one video never gets, memory that need not be mapped
    yield from dycoke(frames, cells)
    yield from prumerge(frames, patches)
    yield from visionzip(frames, cells)
    yield from dytok(frames, cells)
    yield from fastv(frames, cells)


def measure(case: Case, rounds: int) -> Row:
    """Checks that the results are equal, then takes turns; a reference of seconds gets no second turn."""
    took = case.reference, case.ours
    results, first = zip(*(clocked(action) for action in took), strict=True)
    case.check(*results)
    del results
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for action, taken, once in zip(took, times, first, strict=True):
            taken.append(once if once > 1e3 else clocked(action)[1])
    return Row(case.name, case.size, *(statistics.median(taken) for taken in times))


def clocked(action: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `action` and the milliseconds it took."""
    start = time.perf_counter()
    result = action()
    return result, 1e3 * (time.perf_counter() - start)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ratios(rounds: int = ROUNDS) -> dict[str, float]:
    """How many times faster than its reference each operator is; compare with `CLAIMS`."""
    return {case.name: measure(case, rounds).ratio for case in cases()}


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    print(f"float32, {number} of {os.cpu_count()} threads, load {os.getloadavg()[0]:.1f}, median of {ROUNDS}")
    print(f"{'operator':42} {'size':37} {'reference ms':>12} {'ours ms':>9} {'times':>7}  claim")
    with threads(number):
        for case in cases():
            row, claim = measure(case, ROUNDS), CLAIMS.get(case.name)
            verdict = "" if claim is None else f"{claim:3.0f}  {'met' if row.ratio >= claim else 'missed'}"
            print(f"{row.name:42} {row.size:37} {row.reference:12.2f} {row.ours:9.2f} {row.ratio:7.2f}  {verdict}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
