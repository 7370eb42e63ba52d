"""PruMerge keeps the tokens whose vision-tower attention is an outlier and merges their neighbours into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from tokenprune import ops
from tokenprune.precision import exact
from tokenprune.strategies.uniform import evenly_spaced
from tokenprune.strategy import Adjustable, Extent, TowerReader, VisionStage
from tokenprune.tokens import Signals, VisualTokens

NEIGHBOURS = 32


def outliers(attention: Float[Tensor, "f m"], valid: Bool[Tensor, "f m"]) -> Int[Tensor, "f"]:
    """How many values of each frame lie above `Q3 + 1.5 (Q3 - Q1)`; at least one."""
    real = attention.double().masked_fill(~valid, torch.nan)
    first, third = torch.nanquantile(
        real, torch.tensor([0.25, 0.75], dtype=real.dtype, device=real.device), dim=-1
    )
    fence = third + 1.5 * (third - first)
    return (real > fence.unsqueeze(-1)).sum(-1).clamp(min=1)


def grid(selected: Int[Tensor, "f"], counts: Int[Tensor, "f"], width: int) -> Bool[Tensor, "f m"]:
    """PruMerge+'s regular grid: every `int(int(1 / ratio) / 3)`-th token, the last index excluded as in the release."""
    stride = (
        ((1.0 / (selected.double() / counts.clamp(min=1))).long() // 3).clamp(min=1).unsqueeze(-1)
    )
    index = torch.arange(width, device=counts.device)
    return (index % stride == 0) & (index < counts.unsqueeze(-1) - 1)


@exact
def neighbours(
    keys: Float[Tensor, "f m k"], valid: Bool[Tensor, "f m"], centre: Int[Tensor, "f c"]
) -> tuple[Int[Tensor, "f c b"], Bool[Tensor, "f c b"]]:
    """The 32 tokens nearest to each centre by key cosine, and which of them are real: small frames have fewer."""
    keys = keys.float()
    norms = keys.norm(dim=-1).clamp(min=1e-12)  # the centre's own norm does not change its ranking
    pick = torch.arange(len(centre), device=centre.device).unsqueeze(-1)
    similarity = (keys[pick, centre] @ keys.mT).div_(norms.unsqueeze(1))
    similarity.masked_fill_(~valid.unsqueeze(1), -torch.inf).scatter_(
        2, centre.unsqueeze(2), -torch.inf
    )
    largest, near = similarity.topk(min(NEIGHBOURS + 1, similarity.shape[-1]))
    if largest.shape[-1] > NEIGHBOURS:
        # topk takes any of equal entries: where the last one in equals the first one out, the lower index decides
        tied = (largest[..., -1] == largest[..., -2]) & largest[..., -1].isfinite()
        near[tied] = ops.ranking(similarity[tied])[..., : NEIGHBOURS + 1]
    return near[..., :NEIGHBOURS] * (real := largest[..., :NEIGHBOURS].isfinite()), real


@dataclass(frozen=True)
class PruMerge(VisionStage, TowerReader, Adjustable, name="prumerge"):
    """LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models (Shang et al., ICCV 2025), https://arxiv.org/abs/2403.15388

    Per frame, the tokens with outlying attention (interquartile rule) each absorb their 32 nearest neighbours; one
    extra token sums up what was not selected. `grid=true` is PruMerge+, which also selects a regular grid. Frames are
    independent, tokens come in descending attention, then the grid, the extra token last.

    Decisions: towers without CLS need a proxy for its attention: the mean query's (`mean_query`, single head, as AIM
    does for LLaVA-OneVision) or the attention received (`received`). It runs after the host's pooling. With an explicit
    budget of b tokens, b - 1 are selected and one is the extra token: with the grid, half of them are outliers under
    `keep`, all outliers that fit under an allocator, and the rest are evenly spaced over what is left. A budget of one
    is the top token; a full budget that was asked for changes nothing. The extra token takes the slot of the unselected
    token it is mostly made of.

    Differs from the authors' code: the outlier count is per frame and an integer (not pooled over the batch and
    truncated), the grid is deduplicated with a stride of at least one, no frame ends without a token, and where all
    are selected none is extra (there it is a row of zeros).
    """

    keep: float | None = (
        None  # fraction of each frame's tokens kept; none: adaptive, by the interquartile rule
    )
    grid: bool = False  # PruMerge+: add a regular grid to the outliers
    proxy: Literal["mean_query", "received"] = (
        "mean_query"  # stands in for CLS attention where the tower has none
    )

    def __post_init__(self) -> None:
        ops.fraction("prumerge.keep", self.keep)

    def signals(self) -> Signals:
        return Signals(saliency=self.proxy, keys="full")

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        if self.keep is not None:
            return ops.count(tokens.counts, self.keep)
        return self._adaptive(*self._attention(tokens))[0].sum(-1).add(1).minimum(tokens.counts)

    def retaining(self, ratio: float, extent: Extent) -> PruMerge:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        (attention, valid), counts = self._attention(tokens), tokens.counts
        keys, _ = ops.by_frame(self.recorded(tokens, "keys"), counts)
        ruled = self._adaptive(attention, valid)[0].sum(-1) * (self.keep is None)
        whole = (budget == counts) & (
            ruled < counts - 1
        )  # else the rule itself keeps everything, and merges
        extra = (budget > 1) & ~whole & (budget.minimum(ruled) < counts)
        selected, top = self._select(attention, valid, budget - extra.long())

        # outliers by attention, then the grid in raster order, then the most attended of the rest as the extra token
        place = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
        tier = torch.where(top, 0, torch.where(selected, 1, 2)).masked_fill(~valid, 3)
        by_value = ops.ranking(torch.where(tier == 1, -place, attention).masked_fill(~valid, 0))
        by_tier = by_value.gather(1, tier.gather(1, by_value).argsort(dim=-1, stable=True))
        order = torch.where(whole.unsqueeze(-1), place, by_tier)

        centres = budget.masked_fill(whole, 0)  # a frame that stays whole merges nothing
        width = max(1, int(centres.max()) if len(centres) else 0)
        near, real = neighbours(keys, valid, order[:, :width])
        weight = attention.gather(1, near.flatten(1)).view_as(near) * (real & ~whole.view(-1, 1, 1))
        rows, last = ops.leading(order, counts, budget), budget.cumsum(0) - 1
        frame = tokens.frame[rows]
        row = (
            frame,
            (torch.arange(len(rows), device=frame.device) - (last + 1 - budget)[frame]).clamp(
                max=width - 1
            ),
        )
        # each centre plus the attention-weighted sum of its neighbours; a bag sums rows without writing them out first
        features, start = tokens.features.float(), counts.cumsum(0) - counts
        near, weight = (near + start.view(-1, 1, 1))[row], weight[row]
        merged = functional.embedding_bag(near, features, mode="sum", per_sample_weights=weight)
        every, weight = (
            torch.arange(len(features), device=budget.device),
            (attention * ~selected)[valid],
        )
        rest = functional.embedding_bag(
            every, features, start, mode="sum", per_sample_weights=weight
        )
        del features  # the largest temporary where the model is in half precision
        kept = tokens[rows]
        merged += kept.features
        merged[last[extra]] = rest[extra]
        return kept.with_features(merged)

    def _attention(self, tokens: VisualTokens) -> tuple[Float[Tensor, "f m"], Bool[Tensor, "f m"]]:
        return ops.by_frame(self.recorded(tokens, "saliency").float(), tokens.counts)

    def _adaptive(
        self, attention: Float[Tensor, "f m"], valid: Bool[Tensor, "f m"]
    ) -> tuple[Bool[Tensor, "f m"], Bool[Tensor, "f m"]]:
        """What the interquartile rule selects: everything, and the outliers among it."""
        number = outliers(attention, valid)
        top = ops.keep_top(attention, number, valid) & valid
        return (top | grid(number, valid.sum(-1), valid.shape[1]) if self.grid else top), top

    def _select(
        self, attention: Float[Tensor, "f m"], valid: Bool[Tensor, "f m"], number: Int[Tensor, "f"]
    ) -> tuple[Bool[Tensor, "f m"], Bool[Tensor, "f m"]]:
        """Exactly `number[f]` tokens of each frame, and the outliers among them."""
        if not self.grid:
            top = ops.keep_top(attention, number, valid)
            return top, top
        adaptive, outlying = self._adaptive(attention, valid)
        most = (number + 1) // 2 if self.keep is not None else outlying.sum(-1)
        top = ops.keep_top(attention, number.minimum(most), valid)
        spaced = evenly_spaced(valid & ~top, number - top.sum(-1))
        published = (adaptive.sum(-1) == number).unsqueeze(-1) & (self.keep is None)
        return torch.where(published, adaptive, top | spaced), torch.where(published, outlying, top)
