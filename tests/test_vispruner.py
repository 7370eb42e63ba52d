"""VisPruner: the numbers of its description, its properties, and its rounds written out."""

from __future__ import annotations

from dataclasses import replace

import arbitrary
import pytest
import torch
from arbitrary import draws, video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.strategies.vispruner import VisPruner
from tokenprune.tokens import Signals

FEATURES, SALIENCY = draws(51, 40, 6), draws(52, 40)
TOKENS = video(FEATURES, 40, SALIENCY)
IMPORTANT = [1, 6, 8, 14, 18, 21, 23, 30, 33, 37]
DIVERSE = [2, 4, 15, 17, 22, 24, 25, 32, 34, 35]


def by_hand(features: Tensor, saliency: Tensor, number: int, share: float) -> list[int]:
    """The algorithm as it is written, one frame, cosines in float64."""
    order = sorted(range(len(saliency)), key=lambda token: (-float(saliency[token]), token))
    first = int(number * share)
    kept, rest, wanted = order[:first], order[first:], number - first
    unit = torch.nn.functional.normalize(features.double(), dim=-1)
    while wanted and len(rest) > wanted:
        less = min(8, len(rest) - wanted, len(rest) // 2)
        even, odd = rest[::2], rest[1::2]
        twin = {a: max(float(unit[a] @ unit[b]) for b in odd) for a in even}
        rest = sorted(even, key=lambda a: -twin[a])[less:] + odd
    return sorted(kept + rest * bool(wanted))


def test_the_numbers_of_the_description() -> None:
    kept = VisPruner().compress(TOKENS, torch.tensor([20]))
    assert kept.slot.tolist() == sorted(IMPORTANT + DIVERSE)
    faster = VisPruner(important=1.0).compress(TOKENS, torch.tensor([10]))
    assert faster.slot.tolist() == IMPORTANT


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("number", [0, 1, 3, 7, 20, 38, 39, 40])
def test_any_number_of_tokens(number: int, share: float) -> None:
    """Also where the authors' code fails: odd ones left, fewer than eight wanted."""
    kept = VisPruner(important=share).compress(TOKENS, torch.tensor([number]))
    assert kept.slot.tolist() == by_hand(FEATURES, SALIENCY, number, share)


@given(st.data())
def test_frames_of_different_size_and_budget(data: st.DataObject) -> None:
    frames, cells = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    whole = video(
        torch.randn(frames * cells, 12, generator=generator),
        cells,
        torch.rand(frames * cells, generator=generator),
    )
    there = torch.rand(frames * cells, generator=generator) < data.draw(st.sampled_from([0.5, 2]))
    tokens = whole[there]
    budget = data.draw(arbitrary.budgets(tokens.counts))
    share = data.draw(arbitrary.fractions)
    kept = VisPruner(important=share).compress(tokens, budget)
    assert tokens.saliency is not None
    for frame, number in enumerate(budget.tolist()):
        rows = tokens.frame == frame
        places = by_hand(tokens.features[rows], tokens.saliency[rows], number, share)
        assert kept.slot[kept.frame == frame].tolist() == tokens.slot[rows][places].tolist()


def test_saliency_only_orders_what_is_not_important() -> None:
    one = VisPruner(important=0.0).compress(TOKENS, torch.tensor([12]))
    stretched = replace(TOKENS, saliency=SALIENCY.exp())
    assert torch.equal(
        one.slot, VisPruner(important=0.0).compress(stretched, torch.tensor([12])).slot
    )


def test_of_twins_at_an_even_and_an_odd_place_one_goes() -> None:
    """Places count in descending saliency; the token at the even place goes in the first round."""
    features = FEATURES.clone()
    features[[1, 11, 20]] = features[[0, 10, 21]]
    tokens = video(features, 40, torch.linspace(1, 0, 40))
    kept = VisPruner(important=0.0).compress(tokens, torch.tensor([37]))
    assert sorted({*range(40)} - {*kept.slot.tolist()}) == [0, 10, 20]


def test_what_it_reads_and_what_it_refuses() -> None:
    assert VisPruner().signals() == Signals(saliency="received")
    assert VisPruner(saliency="cls", follow="released").signals() == Signals(
        saliency="cls", tower="projector_input"
    )
    with pytest.raises(StrategyError, match=r"record it: VisualTokens\(..., tower=...\)"):
        VisPruner(follow="released").compress(TOKENS, torch.tensor([20]))
    with pytest.raises(ValueError, match=r"vispruner.important=1.1 is not a fraction"):
        VisPruner(important=1.1)
    nothing = TOKENS[torch.arange(0)]
    assert len(VisPruner().compress(nothing, torch.tensor([0]))) == 0
