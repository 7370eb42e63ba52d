"""VidCom2 gives unusual frames more tokens, and keeps in each those that are least like others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune import hosted, ops, picking
from tokenprune.precision import exact
from tokenprune.strategy import Adjustable, Extent, StrategyError, VisionStage
from tokenprune.tokens import VisualTokens

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)  # of the Gaussian kernels that are summed up

Follow = Literal["paper", "released"]


class Likeness(NamedTuple):
    """How much tokens resemble the video as a whole, and their own frame; large is similar."""

    video: Float[Tensor, "f m"]
    frame: Float[Tensor, "f m"]
    valid: Bool[Tensor, "f m"]


def quiet(features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    """The half of the channels that varies least over all tokens (ties: lower index)."""
    centred = features.float() - features.mean(0, dtype=torch.float32)
    order = ops.ranking(-centred.square_().mean(0))
    return features.index_select(1, order[: len(order) // 2].sort().values)


@exact
@torch.no_grad()  # it ranks
def likeness(features: Float[Tensor, "n d"], counts: Int[Tensor, "f"], follow: Follow) -> Likeness:
    """Cosine with the mean of the tokens, or as released the kernel between unit vectors of quiet
    channels and their mean.
    """
    released = follow == "released"
    rows = picking.unit(quiet(features)) if released else features.float()
    rows, valid = ops.by_frame(rows, counts)
    sums = rows.sum(1)
    frame = sums / counts.clamp(min=1).unsqueeze(1)
    video = sums.sum(0) / max(1, hosted.total(counts))
    centre = torch.stack([video.expand_as(frame), frame], dim=1)
    product = torch.bmm(centre, rows.mT)
    square = torch.linalg.vector_norm(rows, dim=-1).square().unsqueeze(1)
    there = centre.square().sum(-1, keepdim=True)
    if released:
        distance = (square + there - 2 * product).clamp_(min=0).unsqueeze(-1)
        doubled = hosted.moved(torch.tensor(WIDTHS) * -2, distance.device)
        alike = (distance / doubled).exp_().sum(-1)
    else:
        alike = ops.cosine_of(product, square.expand_as(product), there.expand_as(product))
    return Likeness(alike[:, 0], alike[:, 1], valid)


def rates(alike: Likeness, keep: float, temperature: float, follow: Follow) -> Float[Tensor, "f"]:
    """The share of its tokens that each frame keeps: `keep`, and more the less it is like others.

    Not above 1; in float32 as released, in float64 as published.
    """
    counts, number = alike.valid.sum(-1), alike.valid.any(-1).sum().clamp(min=1)
    unusual = -(alike.video * alike.valid).sum(-1) / counts
    unusual = unusual.masked_fill(counts == 0, -torch.inf)
    # in doubles, where no temperature above 0 is 0
    above = (unusual - unusual.max()).double() / temperature
    if follow == "released":
        weight = above.float().softmax(0)
        return (keep * (1 + weight - weight.sum() / number)).clamp(max=1)
    weight = above.exp()
    weight = weight / (weight.sum() + 1e-8)
    return (keep * (1 + weight - 1 / number.double())).clamp(max=1)


@dataclass(frozen=True)
class VidCom2(VisionStage, Adjustable, name="vidcom2"):
    """Video Compression Commander: Plug-and-Play Inference Acceleration for Video Large Language Models (Liu et al., EMNLP 2025), https://arxiv.org/abs/2505.14454

    Frames that resemble the video as a whole keep fewer tokens; in each frame those survive that
    resemble both the video and their frame least, in their order. Nothing is read but features.
    With an allocator the frames' shares are its own, and only which tokens live is VidCom2's.

    Decisions: `follow="released"` is the default, since all published numbers come from it: there
    similarity is a sum of Gaussian kernels on the half of the channels that varies least, counts
    round half to even, and a frame keeps at least one token. `"paper"` is the cosine with plain
    means, and the ceiling of the counts: another ranking, of which no number is known. At the
    published temperature one frame often takes nearly the whole extra share. Rounding per frame
    and the limit of a whole frame leave the total near `keep`, not at it; `keep=1` keeps all.

    Differs from the authors' code: scores are fp32 instead of the model's dtype, ties go to the
    lower index, frames may be of any and of different sizes, and every video of a prompt and every
    sample of a batch is scored by itself.

    Args:
        keep: fraction of the tokens kept, 0 to 1
        temperature: of the softmax that shares out tokens between frames, above 0
        follow: "released" for the authors' code, or "paper" for its equations
    """

    keep: float = 0.25
    temperature: float = 0.01
    follow: Follow = "released"

    mixes_frames: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ops.fraction("vidcom2.keep", self.keep)
        if not self.temperature > 0.0:
            raise StrategyError(
                f"vidcom2.temperature={self.temperature} is no temperature: write a number above 0"
            )

    def quota(self, tokens: VisualTokens) -> Int[Tensor, "f"]:
        counts = tokens.counts
        if not len(tokens) or self.keep == 1.0:
            return counts
        alike = likeness(tokens.features, counts, self.follow)
        share = rates(alike, self.keep, self.temperature, self.follow)
        if self.follow == "paper":
            quota = ops.count(counts, share, "up")
        else:
            quota = (share * counts).round().long().clamp(min=1).minimum(counts)
        return hosted.note_choice(quota, tokens, alike)

    def retaining(self, ratio: float, extent: Extent) -> VidCom2:
        return replace(self, keep=ratio)

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        if not len(tokens):
            return tokens
        if (alike := hosted.choice(budget, tokens)) is None:
            alike = likeness(tokens.features, tokens.counts, self.follow)
        return tokens.keep_top(-(alike.video + alike.frame), budget)
