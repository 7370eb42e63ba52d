"""DyCoke's temporal merging against one copy of its input: `python benchmarks/temporal_merging.py`.

32 frames of 14 x 14 tokens, 3584 wide, float32: the LLaVA-OneVision-7B input. Merging includes counting and writing the
kept rows out; the claim is a ratio of at most one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from tokenprune.strategies.dycoke import DyCoke
from tokenprune.tokens import VisualTokens

FRAMES, CELLS, WIDTH, ROUNDS = 32, 196, 3584, 15


def milliseconds(*actions: Callable[[], object]) -> list[float]:
    """Median time of each action, taken in turns so that other load hits them alike; the first round warms up."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(ROUNDS + 1):
        for action, taken in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken[1:]) for taken in times]


def main() -> None:
    tokens = VisualTokens(
        features=torch.randn(FRAMES * CELLS, WIDTH),
        keys=None,
        saliency=None,
        frame=torch.arange(FRAMES).repeat_interleave(CELLS),
        slot=torch.arange(CELLS).repeat(FRAMES),
        frames=FRAMES,
        cells=CELLS,
    )
    strategy = DyCoke()
    even = torch.full((FRAMES,), int(strategy.quota(tokens).sum()) // FRAMES)  # an allocator's budget cuts anchors too
    clone, merging, allocated = milliseconds(
        tokens.features.clone,
        lambda: strategy.compress(tokens, strategy.quota(tokens)),
        lambda: strategy.compress(tokens, even),
    )
    print(f"{FRAMES} x {CELLS} x {WIDTH} float32 on {torch.get_num_threads()} threads, median of {ROUNDS}")
    print(f"clone              {clone:7.1f} ms")
    print(f"temporal merging   {merging:7.1f} ms   {merging / clone:.2f} of a clone")
    print(f"with an allocator  {allocated:7.1f} ms   {allocated / clone:.2f} of a clone")


if __name__ == "__main__":
    main()
