"""More methods between projector and language model, for `operators.py`; see `cases.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import careful_vision
import naive_vision
import torch
from cases import SMALL, Case, exact_keys, same_tokens, seeded, video
from torch import Tensor

from tokenprune.strategies.cdpruner import CDPruner
from tokenprune.strategies.divprune import DivPrune
from tokenprune.strategies.vidcom2 import VidCom2
from tokenprune.strategies.vispruner import VisPruner
from tokenprune.tokens import VisualTokens

WORDS = 20


def vision(frames: int, cells: int) -> Iterator[Case]:
    """Each with its defaults, at the width of LLaVA-OneVision-0.5B."""
    exact = resembling(frames, cells)
    smooth = torch.randn(frames, cells, SMALL, generator=seeded(11))
    text = torch.randn(WORDS, SMALL, generator=seeded(12))
    saliency = torch.rand(frames, cells, generator=seeded(13))
    diverse, salient, told, plain = DivPrune(), VisPruner(), CDPruner(), VidCom2()
    for name, strategy, tokens, inputs in (
        ("DivPrune", diverse, video(exact), (exact, diverse.keep)),
        ("CDPruner", told, replace(video(smooth), text=text), (smooth, text, told.keep)),
        (
            "VisPruner",
            salient,
            video(exact, saliency=saliency),
            (exact, saliency, salient.keep, salient.important),
        ),
        ("VidCom2", plain, video(smooth), (smooth, plain.keep, plain.temperature)),
    ):
        yield Case(
            name,
            f"{frames} x {cells} x {SMALL}",
            tuple(
                partial(getattr(module, strategy.name), *inputs)
                for module in (naive_vision, careful_vision)
            ),
            partial(compressed, strategy, tokens),
            same_tokens,
        )


def resembling(frames: int, cells: int) -> Tensor:
    """Exact vectors, see `exact_keys`, of a video: one of ten signs differs from frame to frame."""
    flips = torch.rand(frames, cells, SMALL, generator=seeded(14)) < 0.1
    return exact_keys(1, cells, SMALL) * (1 - 2 * (flips.cumsum(0) % 2))


def compressed(strategy: Any, tokens: VisualTokens) -> VisualTokens:
    return strategy.compress(tokens, strategy.quota(tokens))
