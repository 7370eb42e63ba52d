"""FrameFusion: the numbers of its description, and what it promises."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import draws, video
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import resembling
from tokenprune.errors import StrategyError
from tokenprune.sequence import TEXT, Recorded, SequenceView, Survivors
from tokenprune.strategies.framefusion import FrameFusion, due, required
from tokenprune.strategy import Extent
from tokenprune.tokens import VisualTokens

DEPTH = 28


@pytest.mark.parametrize(
    ("shares", "cost", "share"),
    [
        ([], 0.3, 0.7),
        ([0.25], 0.3, 0.622222),
        ([0.5, 0.2, 0.05], 0.3, 0.250526),
        ([0.1], 0.95, 0.0),
    ],
)
def test_published_shares(shares: list[float], cost: float, share: float) -> None:
    assert required(shares, cost, DEPTH) == pytest.approx(share, abs=1e-6)


def test_a_cost_that_merging_has_spent_names_the_smallest_that_works() -> None:
    with pytest.raises(StrategyError, match=r"cost=0.05 is spent before layer 2 of 28") as error:
        required([0.2, 0.1], 0.05, DEPTH)
    assert "write framefusion.cost=0.0543 or more" in str(error.value)
    assert 0 <= required([0.2, 0.1], 0.0543, DEPTH) <= 1


def published() -> VisualTokens:
    return video((draws(91, 1, 4, 5) + 0.6 * draws(92, 6, 4, 5)).flatten(0, 1), 4)


def test_published_similarities() -> None:
    tokens = published()
    order, similar = resembling.to_previous(tokens.features, tokens.slot)
    none = float("-inf")
    expected = [
        [none, 0.7078, 0.7761, 0.8212, 0.5549, 0.5827],
        [none, 0.6723, 0.7061, 0.3995, 0.7740, 0.8479],
        [none, 0.8225, 0.8548, 0.9821, 0.6068, 0.6742],
        [none, 0.9150, 0.5531, 0.2318, 0.6493, 0.1866],
    ]
    torch.testing.assert_close(similar.view(4, 6), torch.tensor(expected), rtol=0, atol=6e-5)
    assert order.tolist() == [4 * frame + cell for cell in range(4) for frame in range(6)]


@pytest.mark.parametrize(
    ("cost", "gone", "event"),
    [(0.3, [6, 7, 10, 12, 14, 21], "merge"), (0.8, [7, 10, 14, 21], "nothing")],
)
def test_published_event(cost: float, gone: list[int], event: str) -> None:
    tokens, strategy = published(), FrameFusion(cost=cost, similarity=0.8)
    left = strategy.condense(tokens)
    kept = [row for row in range(24) if row not in gone]
    assert (left.frame * 4 + left.slot).tolist() == kept
    assert torch.equal(left.features[0], tokens.features[0])
    first = [-0.731262, 0.213195, -0.368793, -1.439241, -0.696219]
    assert left.features[0].tolist() == pytest.approx(first, abs=1e-6)
    assert due([24, len(left)], cost, 0.1, DEPTH)[0] == event


def groups(tokens: VisualTokens, left: VisualTokens) -> Tensor:
    assert left.members is not None
    assert bool((left.members >= 0).all()), "every token goes somewhere"
    return left.members


@given(st.data())
def test_what_merges(data: st.DataObject) -> None:
    tokens = data.draw(arbitrary.visual_tokens())
    strategy: Any = data.draw(arbitrary.configured(FrameFusion))
    left = strategy.condense(tokens)
    members = groups(tokens, left)
    sums = torch.zeros_like(left.features).index_add(0, members, tokens.features)
    sizes = torch.bincount(members, minlength=len(left)).unsqueeze(-1)
    torch.testing.assert_close(left.features * sizes, sums, atol=1e-5, rtol=1e-4)
    assert torch.equal(left.slot[members], tokens.slot), "only within a cell"
    assert bool((left.frame[members] <= tokens.frame).all()), "into what came before"
    # the first of every cell stays, be it in the first frame or later
    order = (tokens.slot * tokens.frames + tokens.frame).argsort()
    slots = tokens.slot[order]
    first = torch.ones_like(slots, dtype=torch.bool)
    first[1:] = slots[1:] != slots[:-1]
    heads = order[first]
    addresses = (left.frame * tokens.cells + left.slot).tolist()
    assert {*(tokens.frame * tokens.cells + tokens.slot)[heads].tolist()} <= {*addresses}
    missing = tokens.frames * tokens.cells - len(tokens)
    most = int(required((), strategy.cost, DEPTH) * tokens.frames * tokens.cells)
    assert len(tokens) - len(left) <= max(0, most - missing)


def test_at_cost_1_nothing_merges() -> None:
    tokens = video(torch.ones(12, 3), 4)
    left = FrameFusion(cost=1.0).condense(tokens)
    assert torch.equal(left.features, tokens.features)
    assert due([12, 12], 1.0, 0.1, DEPTH)[0] == "nothing"


def test_equal_frames_become_one() -> None:
    tokens = video(torch.randn(4, 3).repeat(6, 1), 4)
    left = FrameFusion(cost=0.1).condense(tokens)
    assert left.frame.tolist() == [0] * 4
    torch.testing.assert_close(left.features, tokens.features[:4])
    assert groups(tokens, left).tolist() == [0, 1, 2, 3] * 6


def test_runs_chain_and_meet_over_frames_that_lost_their_tokens() -> None:
    """The third is like the second, which is like the first, which the third is not."""
    angle = torch.tensor([0.0, 0.8, 1.6, 3.0])
    features = torch.stack([angle.cos(), angle.sin()], dim=-1)
    frame, slot = torch.tensor([0, 2, 5, 7]), torch.zeros(4, dtype=torch.long)
    tokens = VisualTokens(features, None, None, frame, slot, 8, 1)
    left = FrameFusion(cost=0.05).condense(tokens)
    assert left.frame.tolist() == [0, 7]
    torch.testing.assert_close(left.features[0], features[:3].mean(0))


def test_rows_of_zeros_are_like_nobody() -> None:
    tokens = video(torch.zeros(6, 2), 2)
    assert len(FrameFusion(similarity=0.1).condense(tokens)) == 6
    assert len(FrameFusion(similarity=0.0).condense(tokens)) < 6, "0 is as similar as asked"


def walk(strategy: FrameFusion, frames: int, cells: int, depth: int, steady: float) -> list[int]:
    """How many tokens each layer sees of a video whose frames are `steady` copies of the first."""
    generator = torch.Generator().manual_seed(2)
    still = torch.randn(cells, 8, generator=generator).repeat(frames, 1)
    noise = torch.randn(frames * cells, 8, generator=generator)
    tokens = strategy.condense(video(steady * still + (1 - steady) * noise, cells))
    text = torch.full((3,), TEXT)
    words = torch.randn(3, 8, generator=generator)
    frame, slot = torch.cat([tokens.frame, text]), torch.cat([tokens.slot, text * 0])
    hidden, seen = torch.cat([tokens.features, words]), [len(tokens)]
    for layer in range(1, depth):
        view = SequenceView(
            frame,
            torch.arange(len(frame)),
            torch.rand(len(frame), generator=generator),
            frames,
            slot,
            cells,
            layer,
            depth,
            torch.tensor(seen),
            Recorded(hidden),
        )
        quota = strategy.quota(view)
        left = strategy.prune(view, quota)
        if isinstance(left, Survivors):
            assert left.hidden is not None
            assert torch.equal(left.hidden[-3:], hidden[-3:])
            rows, hidden = left.rows, left.hidden
        else:
            rows, hidden = left.nonzero().squeeze(-1), hidden[left]
        frame, slot = frame[rows], slot[rows]
        assert int((frame != TEXT).sum()) == int(quota.sum())
        seen.append(int(quota.sum()))
        # the states drift on their way, and text with them
        hidden = hidden + 0.02 * torch.randn(*hidden.shape, generator=generator)
    return seen


@pytest.mark.parametrize("steady", [0.0, 0.3, 0.5, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("cost", [0.25, 0.3, 0.5, 0.9])
def test_a_whole_prompt_costs_what_was_asked(cost: float, steady: float) -> None:
    seen = walk(FrameFusion(cost=cost), frames=8, cells=25, depth=28, steady=steady)
    assert sum(seen) / (28 * 200) == pytest.approx(cost, abs=1.01 / 200), "to a token"
    changes = [a != b for a, b in pairwise(seen)]
    assert sum(changes) <= 6, "and then it is over"


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_once_nothing_is_due_nothing_ever_is(
    removed: list[int], cost: float, enough: float
) -> None:
    counts = [200]
    for number in removed:
        counts.append(max(0, counts[-1] - number))
    try:
        event, _ = due(counts, cost, enough, DEPTH)
    except StrategyError:
        assume(False)
    else:
        if event == "nothing":
            assert due([*counts, counts[-1]], cost, enough, DEPTH)[0] == "nothing"
        if event == "prune":
            assert due([*counts, counts[-1] // 2], cost, enough, DEPTH)[0] == "nothing"


def test_no_video_and_what_cannot_be() -> None:
    silent = SequenceView(torch.full((3,), TEXT), torch.arange(3), layer=2, depth=8)
    assert FrameFusion().quota(silent).tolist() == []
    with pytest.raises(StrategyError, match=r"framefusion retains 3.6% to 100.0% here, not 2.0%"):
        FrameFusion().retaining(0.02, Extent(8, 196, 28))
    assert FrameFusion().retaining(0.4, Extent(8, 196, 28)) == FrameFusion(cost=0.4)
    for name in ("cost", "similarity", "enough"):
        some: Any = {name: 1.2}
        with pytest.raises(ValueError, match=rf"framefusion.{name}=1.2 is not a fraction"):
            FrameFusion(**some)
