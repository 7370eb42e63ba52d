"""DyToK whose frames are weighed by how evenly attention lies on their tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune.strategies.dytok import DyToK, attended
from tokenprune.tokens import Probe


def entropy_of_frames(
    attention: Float[Tensor, "l n"], frame: Int[Tensor, "n"], frames: int
) -> Float[Tensor, "l f"]:
    """Entropy of each frame's own share of attention, 0 on one token to 1 where all get alike.

    A frame of one token has nothing to be even about, and 1.
    """
    mass = attention.new_zeros(len(attention), frames).index_add(1, frame, attention)
    share = attention / mass[:, frame].clamp(min=torch.finfo(attention.dtype).tiny)
    terms = torch.special.entr(share)
    most = torch.bincount(frame, minlength=frames).clamp(min=1).log()
    entropy = torch.zeros_like(mass).index_add(1, frame, terms)
    return torch.where(most > 0, entropy / most.clamp(min=1e-12), 1.0)


@dataclass(frozen=True)
class AttentionEntropy(DyToK, name="attention_entropy"):
    """DyToK, Table 14, "attention entropy" (NeurIPS 2025), https://arxiv.org/abs/2512.06866

    A frame's weight is the entropy of the last prompt token's attention within the frame, divided
    by the logarithm of its number of tokens.

    Decisions: the paper names the estimator, no formula. Attention is DyToK's: over visual keys,
    the mean over heads; the entropy is taken in each layer, and the mean over layers is the weight.

    Args:
        layers: first and last guide layer read (0-based, inclusive); none: the last third
        pool: side of the squares of tokens that the guide sees as one; 1: it sees all tokens
        cap: most tokens of one frame, at least 1; none: as many as it has
        follow: "paper", or "released" for the authors' remainders and layers, as `dytok` has it
    """

    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        probe = probe.pooled(self.pool)
        attention = attended(probe.last_row(self.read(probe.depth))).mean(1)
        weights = entropy_of_frames(attention, probe.frame, probe.frames).mean(0)
        held = torch.bincount(probe.frame, minlength=probe.frames) > 0
        return torch.where(held, weights, 0.0)
