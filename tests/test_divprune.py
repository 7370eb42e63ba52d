"""DivPrune: the numbers of its description, its properties, and a greedy loop written out."""

from __future__ import annotations

import arbitrary
import pytest
import torch
from arbitrary import draws, video
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import picking
from tokenprune.strategies.divprune import DivPrune
from tokenprune.tokens import VisualTokens

TOKENS = video(draws(31, 36, 6), 9)
PICKS = [34, 9, 21, 19, 25, 20, 16, 28, 7]


def order(tokens: VisualTokens, number: int) -> list[int]:
    vectors = picking.unit(tokens.features)
    return picking.farthest(vectors, tokens.frame, tokens.counts, number).tolist()


def by_hand(distance: Tensor, frame: list[int], room: list[int]) -> list[int]:
    """The algorithm as it is written, on all distances in float64."""
    room, picks = list(room), []
    others = distance.clone().fill_diagonal_(torch.inf)
    score = others.amin(1)
    while sum(room):
        open_ = [i for i in range(len(frame)) if room[frame[i]] and i not in picks]
        best = max(open_, key=lambda i: (float(score[i]), -i))
        score = distance[best] if not picks else score.minimum(distance[best])
        picks.append(best)
        room[frame[best]] -= 1
    return picks


def distances(tokens: VisualTokens) -> Tensor:
    unit = torch.nn.functional.normalize(tokens.features.double(), dim=-1)
    return 1 - unit @ unit.T


def test_the_numbers_of_the_description() -> None:
    assert order(TOKENS, 9) == PICKS
    strategy = DivPrune(keep=0.25)
    assert strategy.quota(TOKENS).tolist() == [1, 2, 4, 2]
    kept = strategy.compress(TOKENS, strategy.quota(TOKENS))
    assert (kept.frame * 9 + kept.slot).tolist() == sorted(PICKS)
    far = distances(TOKENS)
    assert float(far[34, torch.arange(36) != 34].min()) == pytest.approx(0.429922, abs=1e-6)
    assert float(far[34, 9]) == pytest.approx(1.750271, abs=1e-6)


def test_frames_by_themselves() -> None:
    strategy = DivPrune(keep=0.25, scope="frame")
    assert strategy.quota(TOKENS).tolist() == [2, 2, 2, 2]
    kept = strategy.compress(TOKENS, strategy.quota(TOKENS))
    assert kept.slot.tolist() == [2, 6, 1, 2, 0, 2, 1, 3]


@pytest.mark.parametrize("number", [1, 2, 8, 36])
def test_picks_are_nested(number: int) -> None:
    assert order(TOKENS, number) == order(TOKENS, 36)[:number]


def test_more_tokens_than_one_block_compares() -> None:
    """Many picks of many tokens, in several rounds, are those of the plain loop."""
    tokens = video(draws(5, 40 * 16, 12), 16)
    distance = distances(tokens)
    assert len(tokens) > 2 * picking.BLOCK
    room = [0, 30, *[16] * 2, *[1] * 36]
    budget = torch.tensor(room).minimum(tokens.counts)
    vectors, number = picking.unit(tokens.features), int(budget.sum())
    picks = picking.farthest(vectors, tokens.frame, budget, number)
    assert picks.tolist() == by_hand(distance, tokens.frame.tolist(), budget.tolist())
    whole = picking.farthest(vectors, tokens.frame, tokens.counts, 128)
    assert whole.tolist() == order(tokens, 640)[:128]
    quota = torch.bincount(tokens.frame[whole], minlength=40)
    kept = DivPrune().compress(tokens, quota)
    assert (kept.frame * 16 + kept.slot).tolist() == sorted(whole.tolist())


@pytest.mark.parametrize("number", [1, 2, picking.PART + 1, 3 * picking.PART])
def test_the_loneliest_of_many(number: int) -> None:
    """However many blocks there are, also where only some rows may be it."""
    vectors = picking.unit(draws(9, number, 12))
    nearest = (vectors @ vectors.T).fill_diagonal_(-torch.inf).amax(1)
    every = torch.arange(number)
    assert picking.loneliest(vectors, every).tolist() == [int(nearest.argmin())]
    some = every[::3]
    assert picking.loneliest(vectors, some).tolist() == [3 * int(nearest[some].argmin())]


def test_a_block_that_is_mostly_copies_of_one_token() -> None:
    """What is outside the block comes next as soon as it is farther than what is inside."""
    rows = draws(6, 12, 8)
    place = torch.tensor([0] * 300 + [*range(1, 12)])
    tokens = video(rows[place] + 1e-3 * draws(7, len(place), 8), len(place))
    picks = order(tokens, 12)
    assert sorted(place[picks].tolist()) == [*range(12)]
    assert picks == by_hand(distances(tokens), [0] * len(place), [12])


@given(st.data())
def test_a_budget_closes_frames(data: st.DataObject) -> None:
    frames, cells = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    tokens = video(torch.randn(frames * cells, 7, generator=generator), cells)
    budget = data.draw(arbitrary.budgets(tokens.counts))
    kept = DivPrune().compress(tokens, budget)
    picks = by_hand(distances(tokens), tokens.frame.tolist(), budget.tolist())
    assert (kept.frame * cells + kept.slot).tolist() == sorted(picks)
    alone = DivPrune(scope="frame").compress(tokens, budget)
    expected = []
    for frame, part in enumerate(tokens.features.split(cells)):
        places = by_hand(distances(video(part, cells)), [0] * cells, [int(budget[frame])])
        expected += [frame * cells + place for place in sorted(places)]
    assert (alone.frame * cells + alone.slot).tolist() == expected


def test_lengths_do_not_matter_and_frames_may_move() -> None:
    scale = draws(32, 36, 1).abs() + 0.1
    assert order(video(TOKENS.features * scale, 9), 9) == PICKS
    moved = torch.tensor([2, 0, 3, 1])
    there = video(TOKENS.features.unflatten(0, (4, 9))[moved].flatten(0, 1), 9)
    assert [int(moved[i // 9]) * 9 + i % 9 for i in order(there, 9)] == PICKS


def test_copies_of_a_kept_token_and_zeros() -> None:
    rows = torch.eye(6)[torch.tensor([0, 0, 1, 2, 2, 3])]
    assert sorted(order(video(rows, 6), 4)) == [0, 2, 3, 5]
    zeros = torch.cat([torch.zeros(2, 6), rows[:2]])
    assert sorted(order(video(zeros, 4), 3)) == [0, 1, 2]


def test_half_to_even_and_nothing_at_all() -> None:
    tokens = video(draws(1, 5, 3), 5)
    assert int(DivPrune(keep=0.5).quota(tokens).sum()) == 2
    assert len(DivPrune(keep=0.0).compress(tokens, torch.tensor([0]))) == 0
    nothing = tokens[torch.arange(0)]
    for strategy in (DivPrune(), DivPrune(scope="frame")):
        assert strategy.quota(nothing).tolist() == [0]
        assert len(strategy.compress(nothing, torch.tensor([0]))) == 0
    with pytest.raises(ValueError, match=r"divprune.keep=1.5 is not a fraction"):
        DivPrune(keep=1.5)
