"""DyToK whose frames are weighed by all tokens of the question instead of the last one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenprune.precision import exact
from tokenprune.strategies.dytok import DyToK, mean_of_frames
from tokenprune.tokens import Probe


@exact
def received(queries: Float[Tensor, "r h e"], keys: Float[Tensor, "g n e"]) -> Float[Tensor, "n"]:
    """Attention of one layer's rows over visual keys alone, mean over heads and rows."""
    grouped = queries.float().unflatten(1, (len(keys), -1))
    scores = torch.einsum("rgqe,gne->rgqn", grouped, keys.float()) * queries.shape[-1] ** -0.5
    return scores.softmax(dim=-1).mean(dim=(0, 1, 2))


@dataclass(frozen=True)
class AllQueryTokens(DyToK, name="dytok_all"):
    """DyToK, Table 15, "all query tokens" (NeurIPS 2025), https://arxiv.org/abs/2512.06866

    Decisions: the paper does not say which tokens these are. Here they are all text rows behind the
    video, the turn of the assistant among them: rows in front of it see none of it. Each row counts
    as much as another.

    Args:
        layers: first and last guide layer read (0-based, inclusive); none: the last third
        pool: side of the squares of tokens that the guide sees as one; 1: it sees all tokens
        cap: most tokens of one frame, at least 1; none: as many as it has
        follow: "paper", or "released" for the authors' remainders and layers, as `dytok` has it
    """

    def weigh(self, probe: Probe) -> Float[Tensor, "f"]:
        probe = probe.pooled(self.pool)
        rows = probe.question(self.read(probe.depth))
        layers = torch.stack([*map(received, rows.queries, rows.keys)])
        return mean_of_frames(layers.mean(0), probe.frame, probe.frames)
