"""SparseVLM: the numbers of its description, and what it promises."""

from __future__ import annotations

import dataclasses
from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import draws
from hypothesis import given
from hypothesis import strategies as st
from test_golden_sparsevlm import Rated
from torch import Tensor

from tokenprune import ops
from tokenprune.clustering import condensed
from tokenprune.errors import StrategyError
from tokenprune.sequence import TEXT, Recorded, SequenceView, Survivors
from tokenprune.strategies.sparsevlm import SparseVLM, relevance
from tokenprune.strategy import Extent

LISTS = {192: (300, 200, 110), 128: (303, 110, 36), 64: (66, 30, 17)}


def test_where_events_come() -> None:
    assert SparseVLM().layers(32) == (3, 7, 16)
    assert SparseVLM().layers(28) == (2, 6, 14)
    assert SparseVLM().layers(8) == (1, 2, 4)
    assert SparseVLM().layers(4) == (1, 2), "two events before one layer are one"
    assert SparseVLM(keep=(0.1,), after=(1,)).layers(32) == (2,)


@pytest.mark.parametrize(
    ("nominal", "rows", "share"),
    [(192, [309, 204, 113], 0.359), (128, [312, 117, 39], 0.252), (64, [82, 32, 18], 0.143)],
)
def test_published_counts_and_what_they_really_retain(
    nominal: int, rows: list[int], share: float
) -> None:
    keep: Any = tuple(count / 576 for count in LISTS[nominal])
    mean = (3 * 576 + 4 * rows[0] + 9 * rows[1] + 16 * rows[2]) / 32
    extent = Extent(4, 144, 32)
    assert SparseVLM(keep=keep).retaining(mean / 576, extent) == SparseVLM(keep=keep)
    assert mean / 576 == pytest.approx(share, abs=6e-4)
    # and from another list of the same shape
    half = SparseVLM(keep=tuple(part / 2 for part in keep))
    found = half.retaining(mean / 576, extent)
    assert [round(part * 576) for part in found.keep] == pytest.approx(LISTS[nominal], abs=1)
    assert [round(576 * part) for part in SparseVLM().keep] == [300, 200, 110]


def test_published_raters() -> None:
    found = relevance(draws(71, 10, 6), draws(72, 5, 6))
    expected = [0.194671, 0.211905, 0.231395, 0.211192, 0.150837]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert (found > found.mean()).nonzero().squeeze(-1).tolist() == [1, 2, 3]


def published(hidden: Tensor | None = None) -> SequenceView:
    table = (4 * draws(73, 2, 5, 60)).softmax(-1)
    hidden = torch.randn(65, 4, generator=torch.Generator().manual_seed(0))
    reading = Rated((0, 60, 5), table, torch.tensor([1, 3]), hidden)
    frame = torch.tensor([0] * 60 + [TEXT] * 5)
    return SequenceView(
        frame, torch.arange(65), layer=3, depth=32, seen=torch.tensor([60] * 3), reading=reading
    )


KEPT = [8, 12, 13, 19, 34, 36, 37, 40, 47, 55]
POOL = [16, 29, 25, 7, 59, 24, 30, 51, 17, 43, 2, 32, 44, 22, 58, 39]


def test_published_event() -> None:
    view, strategy = published(), SparseVLM(keep=(10 / 60,), after=(2,))
    left = strategy.prune(view, strategy.quota(view))
    assert isinstance(left, Survivors)
    assert left.hidden is not None
    unchanged = (left.hidden == view.hidden[left.rows]).all(-1)
    same = left.rows[unchanged].tolist()
    assert same == [*KEPT, *range(60, 65)]
    carriers = {*left.rows.tolist()} - {*same}
    assert len(carriers) == 2
    assert carriers < {*POOL}
    centre, made = condensed(view.hidden[POOL], 2, 2)
    assert {POOL[place] for place in centre.tolist()} == carriers
    for place, state in zip(centre.tolist(), made, strict=True):
        assert torch.equal(left.hidden[left.rows == POOL[place]][0], state)
    by_rank = SparseVLM(keep=(1.0,), after=(2,), count="rank", rank=(2.0, 1.5), recycle=False)
    assert int(by_rank.quota(view)) == int(2 * 2 + 1.5)


def test_published_clusters() -> None:
    states = draws(74, 30, 4)
    centre, made = condensed(states, 4, 4)
    assert centre.tolist() == [14, 2, 5, 1]
    expected = [
        [0.612444, -0.590411, 0.214621, -0.506216],
        [-0.519314, 0.283482, -0.094334, 0.089780],
        [-0.008693, -0.550071, 0.613760, 0.445032],
        [0.161504, 0.907592, -0.680553, -0.207880],
    ]
    torch.testing.assert_close(made, torch.tensor(expected), rtol=0, atol=2e-6)
    _, sums = condensed(states, 4, 4, "sum")
    sizes = torch.tensor([[10.0], [11], [5], [4]])
    torch.testing.assert_close(sums, made * sizes)


@st.composite
def cases(draw: st.DrawFn) -> tuple[SparseVLM, SequenceView]:
    strategy: Any = draw(arbitrary.configured(SparseVLM))
    if strategy.count == "fixed":
        share = draw(st.floats(0.01, 1.0))
        with arbitrary.checked():
            strategy = dataclasses.replace(strategy, keep=(share, share / 2), after=(2, 9))
    view = draw(arbitrary.sequence_views(stage=strategy))
    return strategy, view


@given(cases())
def test_what_lives(case: tuple[SparseVLM, SequenceView]) -> None:
    strategy, view = case
    total, quota = int(view.visual.sum()), strategy.quota(view)
    left = strategy.prune(view, quota)
    if not isinstance(left, Survivors):
        assert bool(left.all())
        assert torch.equal(quota, view.counts)
        return
    assert left.hidden is not None
    alive = view.frame[left.rows]
    assert torch.equal(torch.bincount(alive[alive != TEXT], minlength=view.frames), quota)
    changed = (left.hidden != view.hidden[left.rows]).any(-1)
    assert not bool(changed[alive == TEXT].any())
    if strategy.recycle:
        kept = int(quota.sum())
        assert 0 < kept < total or kept == total == 1
        assert int(changed.sum()) <= (int(0.3 * total) + 1) // 10 + 1
    else:
        assert not bool(changed.any()), "without recycling survivors are what they were"
    if strategy.follow == "paper":
        assert bool((left.rows.diff() > 0).all())


def sequence(texts: int, visual: int = 40, width: int = 4) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    frame = torch.cat(
        [torch.tensor([TEXT]), torch.arange(visual) // 10, torch.full((texts,), TEXT)]
    )
    parts = {
        name: torch.randn(len(frame), *size, generator=generator)
        for name, size in {
            "hidden": (width,),
            "inputs": (width,),
            "keys": (2, 3),
            "queries": (4, 3),
        }.items()
    }
    return frame, parts


def view_of(frame: Tensor, parts: dict[str, Tensor]) -> SequenceView:
    seen = torch.full((3,), int((frame != TEXT).sum()))
    return SequenceView(
        frame, torch.arange(len(frame)), layer=3, depth=32, seen=seen, reading=Recorded(**parts)
    )


@pytest.mark.parametrize("follow", ["paper", "released"])
def test_heads_do_not_matter(follow: Any) -> None:
    strategy = SparseVLM(follow=follow)
    frame, parts = sequence(6)
    one = strategy.prune(view_of(frame, parts), torch.zeros(4, dtype=torch.long))
    turned = {"keys": parts["keys"].flip(1), "queries": parts["queries"].flip(1)}
    two = strategy.prune(view_of(frame, parts | turned), torch.zeros(4, dtype=torch.long))
    assert isinstance(one, Survivors)
    assert isinstance(two, Survivors)
    assert torch.equal(one.rows, two.rows)
    assert one.hidden is not None
    assert two.hidden is not None
    assert torch.equal(one.hidden, two.hidden)


def test_released_carriers_stand_behind_all_that_is_kept_and_before_the_question() -> None:
    frame, parts = sequence(6)
    strategy = SparseVLM(follow="released")
    left = strategy.prune(view_of(frame, parts), torch.zeros(4, dtype=torch.long))
    assert isinstance(left, Survivors)
    kept = left.rows[1:-6]
    number = round(0.521 * 40)
    assert bool((kept[:number].diff() > 0).all())
    assert len(kept) == number + 1
    assert int(kept[-1]) < int(kept[number - 1]), "else this shows nothing"
    assert left.rows[0] == 0
    assert left.rows[-6:].tolist() == [*range(41, 47)]


def test_released_rows_stay_in_the_order_in_which_the_layer_below_saw_them() -> None:
    """Carriers of the event before stand behind other rows, and are kept there."""
    frame, parts = sequence(6)
    view = view_of(frame, parts)
    place = torch.arange(len(frame))
    place[6], place[7:41] = 40, torch.arange(6, 40)  # one token went behind all others
    moved = dataclasses.replace(view, place=place)
    strategy = SparseVLM(follow="released")
    one, two = (strategy.prune(v, strategy.quota(v)) for v in (view, moved))
    assert isinstance(one, Survivors)
    assert isinstance(two, Survivors)
    kept = round(0.521 * 40)
    assert one.rows.sort().values.equal(two.rows.sort().values)
    expected = one.rows.tolist()[1 : kept + 1]
    expected.remove(6)
    assert two.rows.tolist()[1 : kept + 1] == [*expected, 6]


def test_the_only_word_rates_though_it_is_not_above_itself() -> None:
    frame, parts = sequence(1)
    view, strategy = view_of(frame, parts), SparseVLM(recycle=False)
    kept = strategy.prune(view, strategy.quota(view))
    assert isinstance(kept, Survivors)
    order = 1 + ops.ranking(view.attend(torch.tensor([41]))[1:41])[: round(0.521 * 40)]
    assert kept.rows[1:-1].tolist() == sorted(order.tolist())


def test_raters_are_those_of_the_whole_video_at_later_events() -> None:
    """Rows that went before still say which words are meant."""
    frame, parts = sequence(6)
    asked: list[list[int]] = []

    class Watched(Recorded):
        def attend(self, rows: Tensor, heads: Any = "mean") -> Tensor:
            asked.append((rows - len(self.hidden)).tolist())
            return super().attend(rows, heads)

    strategy, rows = SparseVLM(), torch.arange(len(frame))
    for layer, left in ((3, rows), (7, rows[::3].unique()), (16, rows[::13])):
        left = torch.cat([left, rows[frame == TEXT]]).unique()
        here = {name: part if name == "inputs" else part[left] for name, part in parts.items()}
        seen = torch.full((layer,), 40)
        view = SequenceView(
            frame[left], left, layer=layer, depth=32, seen=seen, reading=Watched(**here)
        )
        strategy.quota(view)
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]


def test_without_words_behind_the_video_it_says_so() -> None:
    frame, parts = sequence(0)
    with pytest.raises(StrategyError, match="put some there"):
        SparseVLM().quota(view_of(frame, parts))
    silent = SequenceView(torch.full((3,), TEXT), torch.arange(3), layer=3, depth=32)
    assert SparseVLM().quota(silent).tolist() == [], "and no video is no event"
    everything = SparseVLM().prune(silent, torch.zeros(0, dtype=torch.long))
    assert isinstance(everything, Tensor)
    assert bool(everything.all())


@pytest.mark.parametrize(
    "options",
    [
        {"keep": (0.5,)},
        {"keep": (), "after": ()},
        {"after": (2, 2, 15)},
        {"after": (6, 2, 15)},
        {"after": (2, 6, 31)},
        {"keep": (0.5, 0.2, 1.1)},
        {"keep": (0.5, 0.2, 0.0)},
    ],
)
def test_what_are_no_events(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="write fractions and as many layers"):
        SparseVLM(**options)


def test_retention_below_what_layers_before_the_first_event_see() -> None:
    with pytest.raises(StrategyError, match=r"sparsevlm retains \d+\.\d% to 100.0% here, not 3.0%"):
        SparseVLM().retaining(0.03, Extent(8, 196, 32))
    by_rank = SparseVLM(count="rank").retaining(0.4, Extent(8, 196, 32))
    assert by_rank.count == "fixed"
