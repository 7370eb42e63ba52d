"""CDPruner: the numbers of its description, its properties, and its loop written out."""

from __future__ import annotations

from dataclasses import replace

import arbitrary
import pytest
import torch
from arbitrary import draws, video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import picking
from tokenprune.errors import StrategyError
from tokenprune.strategies.cdpruner import CDPruner, picks, relevances
from tokenprune.tokens import Signals, VisualTokens

X, V, T = draws(41, 2, 12, 8), draws(42, 2, 12, 5), draws(43, 1, 5)
WEIGHT = relevances(V.flatten(0, 1), T, sign=-1).view(2, 12)
PICKS = [[7, 2, 6, 11, 9], [4, 1, 7, 5, 3]]


def picked(features: Tensor, weight: Tensor, number: int) -> list[list[int]]:
    groups, tokens = weight.shape
    frame = torch.arange(groups).unsqueeze(1).expand(groups, tokens)
    room, free = torch.full((groups,), number), torch.ones(groups, tokens, dtype=torch.bool)
    return picks(picking.unit(features), weight, number, frame, room, free).tolist()


def kernel(features: Tensor, weight: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(features.double(), dim=-1)
    return weight.double()[:, None] * (unit @ unit.T) * weight.double()


def by_hand(features: Tensor, weight: Tensor, frame: list[int], room: list[int]) -> list[int]:
    """Greedy by the gain in the log determinant itself, in float64."""
    room, kept, full = list(room), [], kernel(features, weight)
    while sum(room):
        gains = {}
        for token in range(len(frame)):
            if room[frame[token]] and token not in kept:
                rows = torch.tensor([*kept, token])
                gains[token] = float(torch.linalg.det(full[rows][:, rows]))
        kept.append(max(gains, key=lambda token: (gains[token], -token)))
        room[frame[kept[-1]]] -= 1
    return kept


def words(features: Tensor, cells: int, text: Tensor) -> VisualTokens:
    return replace(video(features, cells), text=text)


def test_the_numbers_of_the_description() -> None:
    expected = (
        "0.057922 0.634763 0.973618 0.710737 0.640372 0.331884 0.720153 1.000001 0.422413 "
        "0.601090 0.000001 0.891050"
    )
    numbers = torch.tensor([float(number) for number in expected.split()])
    torch.testing.assert_close(WEIGHT[0], numbers, rtol=0, atol=1e-6)
    assert picked(X, WEIGHT, 5) == PICKS


@pytest.mark.parametrize("number", [1, 3, 12])
def test_picks_are_nested(number: int) -> None:
    """Also where the tokens span everything there is, eight dimensions."""
    assert picked(X, WEIGHT, number) == [order[:number] for order in picked(X, WEIGHT, 12)]
    assert all(sorted(order) == [*range(12)] for order in picked(X, WEIGHT, 12))


def test_beyond_the_rank_the_most_relevant_come_next() -> None:
    order = picked(X, WEIGHT, 12)
    for weight, places in zip(WEIGHT, order, strict=True):
        rest = [float(weight[place]) for place in places[8:]]
        assert rest == sorted(rest, reverse=True)
    copies = torch.eye(8)[torch.tensor([0, 1, 1, 0, 1])]
    weight = torch.tensor([[0.5, 0.9, 0.3, 0.4, 0.8]])
    assert picked(copies.unsqueeze(0), weight, 5) == [[1, 0, 4, 3, 2]]


def test_the_gains_multiply_to_the_determinant() -> None:
    """Greedy: no other next token would have made the determinant larger."""
    for features, weight, order in zip(X, WEIGHT, PICKS, strict=True):
        assert by_hand(features, weight, [0] * 12, [5]) == order


def test_lengths_do_not_matter() -> None:
    scale = draws(44, 2, 12, 1).abs() + 0.1
    torch.testing.assert_close(
        relevances((V * scale).flatten(0, 1), 3 * T, sign=-1).view(2, 12), WEIGHT
    )
    assert picked(X * scale, WEIGHT, 5) == PICKS


def test_relevance_is_scaled_over_all_frames_and_may_be_sharpened() -> None:
    text = draws(45, 3, 8)
    plain = relevances(X.flatten(0, 1), text)
    unit = torch.nn.functional.normalize
    cosine = (unit(X.flatten(0, 1), dim=-1) @ unit(text, dim=-1).T).mean(1)
    scaled = (cosine - cosine.min()) / (cosine.max() - cosine.min())
    torch.testing.assert_close(plain, scaled, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        relevances(X.flatten(0, 1), text, sign=-1), 1 - plain, rtol=0, atol=1e-5
    )
    sharp = relevances(X.flatten(0, 1), text, theta=0.5)
    torch.testing.assert_close(sharp, (0.5 * plain).exp())


def test_where_no_token_matters_more_all_are_as_good() -> None:
    ones = torch.ones(4)
    assert torch.equal(relevances(X[0, :4], X[0, :0]), ones)  # no text
    assert torch.equal(relevances(X[0, :1].expand(4, 8), X[0, :3]), ones)
    assert torch.equal(relevances(torch.zeros(4, 8), X[0, :3]), ones)
    tokens = words(X.flatten(0, 1), 12, X[0, :0])
    budget = torch.tensor([5, 5])
    plain = CDPruner(relevance="none").compress(tokens, budget)
    assert torch.equal(CDPruner().compress(tokens, budget).slot, plain.slot)
    assert plain.slot.view(2, 5).tolist() == [
        sorted(order) for order in picked(X, torch.ones(2, 12), 5)
    ]


@given(st.data())
def test_a_budget_closes_frames(data: st.DataObject) -> None:
    """Every frame by itself, or all of them in one pool."""
    frames, cells = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    features = torch.randn(frames * cells, 24, generator=generator)
    tokens = words(features, cells, torch.randn(2, 24, generator=generator))
    budget = data.draw(arbitrary.budgets(tokens.counts))
    assert tokens.text is not None
    weight = relevances(features, tokens.text).clamp(min=1e-3)  # the least is kept last anyway
    kept = CDPruner(scope="video").compress(tokens, budget)
    pool = by_hand(features, weight, tokens.frame.tolist(), budget.tolist())
    assert (kept.frame * cells + kept.slot).tolist() == sorted(pool)
    alone = CDPruner().compress(tokens, budget)
    expected = []
    for frame, number in enumerate(budget.tolist()):
        rows = slice(frame * cells, (frame + 1) * cells)
        places = by_hand(features[rows], weight[rows], [0] * cells, [number])
        expected += [frame * cells + place for place in sorted(places)]
    assert (alone.frame * cells + alone.slot).tolist() == expected


def test_the_quota_of_a_pool_is_what_it_picks() -> None:
    tokens = words(X.flatten(0, 1), 12, draws(45, 3, 8))
    assert CDPruner(keep=0.4).quota(tokens).tolist() == [5, 5]
    strategy = CDPruner(keep=0.25, scope="video")
    quota = strategy.quota(tokens)
    assert int(quota.sum()) == 6
    assert strategy.compress(tokens, quota).counts.tolist() == quota.tolist()
    nothing = tokens[torch.arange(0)]
    for scope in (CDPruner(), strategy):
        assert scope.quota(nothing).tolist() == [0, 0]
        assert len(scope.compress(nothing, torch.tensor([0, 0]))) == 0


def test_what_it_reads_and_what_it_refuses() -> None:
    assert CDPruner().signals() == Signals(text="behind")
    assert CDPruner(relevance="none").signals() == Signals()
    with pytest.raises(StrategyError, match=r"record it: VisualTokens\(..., text=...\)"):
        CDPruner().compress(video(X.flatten(0, 1), 12), torch.tensor([1, 1]))
    with pytest.raises(
        StrategyError, match=r"reads CLIP's text tower.*write cdpruner.follow=paper"
    ):
        CDPruner(follow="released")
    with pytest.raises(StrategyError, match=r"cdpruner.theta=1.0 .* from 0 to below 1"):
        CDPruner(theta=1.0)
    with pytest.raises(ValueError, match=r"cdpruner.keep=-1.0 is not a fraction"):
        CDPruner(keep=-1.0)
