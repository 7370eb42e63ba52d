"""DART: the numbers of its description, and what it promises."""

from __future__ import annotations

import dataclasses
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import draws
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune import ops
from tokenprune.errors import StrategyError
from tokenprune.sequence import TEXT, Recorded, SequenceView
from tokenprune.strategies.dart import DART
from tokenprune.strategy import Extent


def view_of(frame: Tensor, hidden: Tensor, keys: Tensor, **more: Tensor) -> SequenceView:
    reading = Recorded(hidden=hidden, keys=keys, **more)
    return SequenceView(frame, torch.arange(len(frame)), reading=reading)


def published() -> SequenceView:
    frame = torch.full((50,), TEXT)
    frame[4:40] = torch.arange(36) // 12
    hidden = draws(63, 50, 8)
    return view_of(frame, hidden, draws(163, 50, 12).unflatten(1, (3, 4)), normed=hidden)


def kept_by(strategy: DART, view: SequenceView) -> list[int]:
    kept = strategy.prune(view, strategy.quota(view))
    assert bool(kept[~view.visual].all())
    return (kept & view.visual).nonzero().squeeze(-1).tolist()


RELEASED = [5, 7, 9, 10, 12, 15, 18, 19, 20, 21, 22, 23, 24, 28, 30, 31, 34, 37]


def test_the_published_selection_in_the_released_order() -> None:
    strategy = DART(keep=16 / 36, visual_pivots=2, text_pivots=2, follow="released")
    assert kept_by(strategy, published()) == RELEASED
    assert list(set([23, 10, 44, 47])) == [10, 44, 47, 23]  # noqa: C405


def test_and_in_ours() -> None:
    expected = sorted({*RELEASED} - {20, 30} | {14, 25})
    strategy = DART(keep=18 / 36, visual_pivots=2, text_pivots=2)
    assert kept_by(strategy, published()) == expected


def test_the_released_numbers_are_not_those_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    frame = torch.cat([torch.arange(576) // 144, torch.full((9,), TEXT)])
    states = torch.randn(585, 8, generator=generator)
    view = view_of(frame, states, states.unsqueeze(1), normed=states)
    assert int(DART(keep=128 / 576).quota(view).sum()) == 128
    assert int(DART(keep=128 / 576, follow="released").quota(view).sum()) == 132
    assert int(DART(keep=0.0).quota(view).sum()) == 0
    assert int(DART(keep=0.0, follow="released").quota(view).sum()) == 4
    assert int(DART(keep=1.0, follow="released").quota(view).sum()) == 576


@st.composite
def views(draw: st.DrawFn) -> SequenceView:
    view = draw(arbitrary.sequence_views())
    generator = torch.Generator().manual_seed(draw(arbitrary.seeds))
    kind, device = draw(st.sampled_from(arbitrary.KINDS)), view.frame.device

    def numbers(*shape: int) -> Tensor:
        return arbitrary.numbers(generator, kind, len(view.frame), *shape).to(device)

    hidden, normed, keys = numbers(6), numbers(6), numbers(2, 3)
    return dataclasses.replace(view, reading=Recorded(hidden, normed, keys))


@st.composite
def strategies(draw: st.DrawFn) -> DART:
    drawn: Any = draw(arbitrary.configured(DART))
    return dataclasses.replace(
        drawn, visual_pivots=draw(st.integers(1, 6)), text_pivots=draw(st.integers(0, 6))
    )


@given(views(), strategies())
def test_the_quota_and_the_pivots(view: SequenceView, strategy: DART) -> None:
    quota = strategy.quota(view)
    kept = strategy.prune(view, quota)
    left = view.frame[kept & view.visual]
    assert torch.equal(torch.bincount(left, minlength=view.frames), quota)
    assert bool(kept[~view.visual].all())
    rows = view.visual.nonzero().squeeze(-1)
    order = rows[ops.ranking(view.keys.abs().sum(dim=(1, 2))[rows])]
    assert bool(kept[order[: min(len(left), strategy.visual_pivots)]].all())
    if strategy.follow == "paper":
        assert len(left) == ops.count(len(rows), strategy.keep)


@given(st.data(), views(), strategies())
def test_any_budget_is_kept_to_the_row(
    data: st.DataObject, view: SequenceView, strategy: DART
) -> None:
    budget = data.draw(arbitrary.budgets(view.counts))
    kept = strategy.prune(view, budget)
    left = view.frame[kept & view.visual]
    assert torch.equal(torch.bincount(left, minlength=view.frames), budget)


def released_by_hand(view: SequenceView, strategy: DART, budget: list[int]) -> list[int]:
    """Pivot by pivot and row by row, in our order."""
    rows = view.visual.nonzero().squeeze(-1).tolist()
    norm = view.keys.abs().sum(dim=(1, 2))
    frame, room = view.frame.tolist(), [*budget]

    def by(values: Tensor, among: list[int], sign: int) -> list[int]:
        return sorted(among, key=lambda row: (sign * float(values[row]), row))

    def take(order: list[int], number: int) -> list[int]:
        found: list[int] = []
        for row in order:
            if len(found) < number and room[frame[row]] > 0:
                found.append(row)
                room[frame[row]] -= 1
        return found

    pivots = take(by(norm, rows, -1), min(strategy.visual_pivots, sum(budget)))
    words = by(norm, view.behind.nonzero().squeeze(-1).tolist(), -1)[: strategy.text_pivots]
    kept, every = [*pivots], [*pivots, *words]
    left = sum(budget) - len(pivots)
    for number, pivot in enumerate(every):
        last = number == len(every) - 1
        share = sum(budget) - len(kept) if last else left // len(every)
        cosine = ops.cosine(view.hidden[pivot].expand_as(view.hidden), view.hidden)
        kept += take(by(cosine, [row for row in rows if row not in kept], 1), share)
    return sorted(kept)


@given(st.data(), views(), strategies())
def test_it_is_what_loops_say(data: st.DataObject, view: SequenceView, strategy: DART) -> None:
    strategy = dataclasses.replace(strategy, follow="paper")
    # numbers of few values tie in one way of summing and not in the other
    generator = torch.Generator().manual_seed(data.draw(arbitrary.seeds))
    hidden, keys = (
        torch.randn(len(view.frame), *size, generator=generator) for size in ((6,), (2, 3))
    )
    device = view.frame.device
    view = dataclasses.replace(view, reading=Recorded(hidden.to(device), keys=keys.to(device)))
    budget = data.draw(arbitrary.budgets(view.counts))
    kept = (strategy.prune(view, budget) & view.visual).nonzero().squeeze(-1).tolist()
    assert kept == released_by_hand(view, strategy, budget.tolist())


@given(views(), strategies())
def test_heads_and_scale_do_not_matter(view: SequenceView, strategy: DART) -> None:
    strategy = dataclasses.replace(strategy, follow="paper")
    if strategy.quota(view).equal(view.counts):
        return
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(len(view.frame), 6, generator=generator).to(view.frame.device)
    keys = view.keys.round()  # whole numbers sum up to the same in any order
    one = dataclasses.replace(view, reading=Recorded(hidden, keys=keys))
    scaled = hidden * 2 ** torch.arange(len(hidden), device=hidden.device).remainder(5).unsqueeze(1)
    other = dataclasses.replace(view, reading=Recorded(scaled, keys=keys.flip(1)))
    assert kept_by(strategy, one) == kept_by(strategy, other)


def test_rows_like_the_only_pivot_are_kept_last() -> None:
    hidden = torch.eye(6)[[0, 0, 0, 1, 2, 3, 4]]
    keys = torch.tensor([1.0, 9, 1, 1, 1, 1, 1]).view(7, 1, 1)
    view = view_of(torch.tensor([0, 0, 0, 0, 1, 1, TEXT]), hidden, keys)
    strategy = DART(keep=4 / 6, visual_pivots=1, text_pivots=0)
    assert kept_by(strategy, view) == [1, 3, 4, 5]
    assert kept_by(dataclasses.replace(strategy, keep=5 / 6), view) == [0, 1, 3, 4, 5]


def test_rows_of_zeros_resemble_nobody() -> None:
    hidden = torch.tensor([[1.0, 0], [0, 0], [1, 0], [1, 1], [0, 0]])
    view = view_of(torch.tensor([0, 0, 0, 0, TEXT]), hidden, hidden.unsqueeze(1))
    assert kept_by(DART(keep=0.75, visual_pivots=2, text_pivots=1), view) == [0, 1, 3]


def test_everything_or_nothing_reads_nothing() -> None:
    silent = SequenceView(torch.tensor([0, 0, 1, TEXT]), torch.arange(4))
    for keep, quota in ((1.0, [2, 1]), (0.0, [0, 0])):
        assert DART(keep=keep).quota(silent).tolist() == quota
        assert DART(keep=keep).prune(silent, torch.tensor(quota)).sum() == 1 + sum(quota)
    text = SequenceView(torch.full((3,), TEXT), torch.arange(3))
    assert DART().quota(text).tolist() == []


def test_what_is_no_number_of_pivots() -> None:
    with pytest.raises(ValueError, match="at least 1 visual one"):
        DART(visual_pivots=0)
    with pytest.raises(ValueError, match="is not a fraction"):
        DART(keep=-0.1)
    with pytest.raises(StrategyError, match=r"dart retains 25.0% to 100.0% here, not 20.0%"):
        DART().retaining(0.2, Extent(8, 196, 8))
    assert DART().retaining(0.625, Extent(8, 196, 8)).keep == 0.5
