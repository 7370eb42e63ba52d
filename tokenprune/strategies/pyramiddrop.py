"""PyramidDrop is FastV in steps: at several LLM layers the least attended visual tokens go."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import repeat
from operator import floordiv

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import hosted, ops
from tokenprune.strategy import Adjustable, Extent, PrefillStage, StrategyError
from tokenprune.tokens import SequenceView


def retained(keep: float, layers: tuple[int, ...], depth: int) -> float:
    """Mean over layers of the fraction that lives: `keep ** p` from the p-th of `layers` up."""
    steps = torch.tensor([0, *layers, depth]).diff().double()
    alive = torch.tensor(keep, dtype=torch.double) ** torch.arange(len(steps))
    return float((steps * alive).sum() / depth)


@dataclass(frozen=True)
class PyramidDrop(PrefillStage, Adjustable, name="pyramiddrop"):
    """PyramidDrop: Accelerating Your Large Vision-Language Models via Pyramid Visual Redundancy Reduction (Xing et al., CVPR 2025), https://arxiv.org/abs/2410.17247

    The language model is cut into `stages` equal parts. Before each part but the first, the visual
    rows live that the last prompt token attends to most in the layer below (fp32, mean over query
    heads): `int(V * keep ** p)` of the `V` that entered layer 0 at the p-th event. All frames
    compete in one pool, so a frame can lose everything; text always stays, and the cache is never
    re-ranked at decode. With an allocator the total of each event stays and is redistributed over
    frames; the competition is then per frame.

    Decisions: part p begins at layer `p * depth // stages`, at least at 1; parts that would begin
    at the same layer are one. Kept rows keep their positions, as the paper says nothing of
    renumbering.

    Differs from the authors' code, which reads queries and keys of the layer that is about to run
    (the paper: of the last layer of the part that ends, as here) and numbers what is left anew, at
    every layer and decoding step. There is no `follow`: a stage can ask for the layer below only,
    and half a release would be called one. The rule of selection is the same. Nor are sequences
    cut to 2048 rows after an event; scores are fp32, key heads may be shared, and batches are
    ranked and masked sample by sample.

    Args:
        keep: fraction of a part's visual tokens that enters the next, 0 to 1 (the paper's lambda)
        stages: equal parts of the language model, at least 2
    """

    keep: float = 0.5
    stages: int = 4

    def __post_init__(self) -> None:
        ops.fraction("pyramiddrop.keep", self.keep)
        if self.stages < 2:
            raise ValueError(
                f"pyramiddrop.stages={self.stages} has no event that drops tokens: write 2 or more"
            )

    def layers(self, depth: int) -> tuple[int, ...]:
        first = map(floordiv, range(depth, self.stages * depth, depth), repeat(self.stages))
        return tuple(sorted({*map(max, first, repeat(1))}))

    def quota(self, view: SequenceView) -> Int[Tensor, "f"]:
        event = bisect_right(self.layers(view.depth), view.layer)
        kept = ops.count(view.full, self.keep**event, "down")
        if kept >= view.total:
            return view.counts  # and the attention, computed when it is read, is not
        return view.quota_of(view.attention, kept)

    def retaining(self, ratio: float, extent: Extent) -> PyramidDrop:
        layers = self.layers(extent.depth)
        whole = layers[0] / extent.depth  # of the layers, those below see every token
        if whole >= 1.0 or ratio < whole - 1e-9:
            raise StrategyError(
                f"pyramiddrop retains {whole:.1%} to 100.0% here, not {ratio:.1%}: with "
                f"pyramiddrop.stages={self.stages} all tokens live below layer {layers[0]} of "
                f"{extent.depth}"
            )
        keep = ops.solve(lambda keep: retained(keep, layers, extent.depth), ratio)
        # a hair more: truncation loses a token where the product falls short of it
        return replace(self, keep=min(1.0, math.ceil(round(keep * 1e9, 2)) / 1e9))

    def prune(self, view: SequenceView, budget: Int[Tensor, "f"]) -> Bool[Tensor, "s"]:
        if hosted.total(budget) == view.total:
            return view.everything
        return view.keep_top(view.attention, budget)
