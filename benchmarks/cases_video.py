"""Methods that merge over a whole video, for `operators.py`; see `cases.py`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import careful_video
import naive_video
import torch
from cases import SMALL, Case, seeded, video
from torch import Tensor

from tokenprune.strategies.fastvid import FastVID
from tokenprune.strategies.flashvid import FlashVID
from tokenprune.strategies.framefusion import FrameFusion
from tokenprune.strategies.holitom import HoliTom
from tokenprune.strategies.prunevid import PruneVid
from tokenprune.tokens import VisualTokens

SHOT = 8  # frames


def clip(frames: int, cells: int) -> Tensor:
    """Shots of some frames in which a cell changes now and then, with noise."""
    new = torch.rand(frames, cells, generator=seeded(21)) < 0.05
    new[::SHOT] = True
    shown = (new.long().cumsum(0) - 1).unsqueeze(-1).expand(-1, -1, SMALL)
    kinds = torch.randn(frames, cells, SMALL, generator=seeded(22))
    shot = torch.arange(frames) // SHOT
    scenes = torch.randn(len(shot), 1, SMALL, generator=seeded(23))[shot]
    noise = torch.randn(frames, cells, SMALL, generator=seeded(24))
    return 0.5 * scenes + kinds.gather(0, shown) + 0.3 * noise


def merging(frames: int, cells: int) -> Iterator[Case]:
    """Each with its defaults, at the width of LLaVA-OneVision-0.5B."""
    features = clip(frames, cells)
    saliency = torch.rand(frames, cells, generator=seeded(25))
    tokens = video(features, saliency=saliency)
    whole, fast, flash, prune = HoliTom(), FastVID(), FlashVID(), PruneVid()
    fusion = FrameFusion()
    for name, strategy, inputs in (
        ("HoliTom", whole, (saliency, whole.keep, whole.similarity, whole.neighbours)),
        (
            "FastVID",
            fast,
            (
                *(saliency, fast.keep, fast.segments, fast.similarity, fast.context),
                *(fast.stride, fast.beta, fast.neighbours),
            ),
        ),
        (
            "FlashVID",
            flash,
            (
                *(saliency, flash.keep, flash.expansion, flash.alpha, flash.similarity),
                *(flash.transition, flash.segments),
            ),
        ),
        ("PruneVid", prune, (prune.similarity, prune.scenes, prune.clusters)),
        ("FrameFusion", fusion, (fusion.cost, fusion.similarity)),
    ):
        yield Case(
            name,
            f"{frames} x {cells} x {SMALL}",
            tuple(
                partial(getattr(module, strategy.name), features, *inputs)
                for module in (naive_video, careful_video)
            ),
            partial(strategy.condense, tokens),
            alike,
        )


def alike(reference: tuple[list[int], Tensor], ours: VisualTokens) -> None:
    rows = (ours.frame * ours.cells + ours.slot).tolist()
    close_enough(reference, (rows, ours.features))


def close_enough(reference: tuple[list[int], Tensor], ours: tuple[list[int], Tensor]) -> None:
    """Two implementations round differently, so of many near ties a few may go another way."""
    assert len(ours[0]) == len(reference[0])
    both = sorted({*ours[0]} & {*reference[0]})
    assert len(both) >= 0.995 * len(ours[0])
    places = [{row: place for place, row in enumerate(rows)} for rows, _ in (ours, reference)]
    one, other = (
        values[[place[row] for row in both]]
        for (_, values), place in zip((ours, reference), places, strict=True)
    )
    close = torch.isclose(one, other, rtol=1e-4, atol=1e-4).all(-1)
    assert float(close.float().mean()) >= 0.98
