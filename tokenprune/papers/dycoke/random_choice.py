"""DyCoke whose merging drops tokens at random: what its choice by similarity is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune import ops
from tokenprune.strategies.dycoke import DyCoke
from tokenprune.tokens import VisualTokens


@dataclass(frozen=True)
class RandomChoice(DyCoke, name="dycoke_random"):
    """DyCoke, Table 5, "random TTM" (Tao et al., CVPR 2025), https://arxiv.org/abs/2411.15024

    Counts, anchors and pruning while decoding are DyCoke's. Of a frame that is cut, the tokens that
    live are drawn uniformly at random, and stay in raster order.

    Decisions: the paper says no more than that tokens are dropped at random; here anchors stay
    whole, so that both forms keep as many tokens of every frame.

    Args:
        merge: fraction of tokens deleted from a compressed frame, 0 to 1 (the paper's K)
        prune: fraction of visual rows hidden while decoding, 0 to 1 (P)
        layer: first LLM layer (0-based, from 1) that decodes with hidden rows (L)
        threshold: the last selection stays while attention's cosine is at least this, up to 1
        reference: attention is compared with that of the "previous" step, or "last_update"
        follow: "paper", or "released" for the frames that the authors' code keeps whole or loses
        offload: hidden rows lie in host memory, which frees the accelerator's; same answers
        seed: of the draw
    """

    seed: int = 0

    mixes_frames: ClassVar[bool] = False  # a draw looks at no other frame

    def compress(self, tokens: VisualTokens, budget: Int[Tensor, "f"]) -> VisualTokens:
        # on the host, so that every device draws the same
        draw = torch.rand(len(tokens), generator=torch.Generator().manual_seed(self.seed))
        scores, valid = ops.by_frame(draw.to(tokens.frame.device), tokens.counts)
        return tokens[ops.keep_top(scores, budget, valid)[valid]]
