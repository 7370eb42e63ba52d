"""PyramidDrop: the numbers of its description, and what it promises."""

from __future__ import annotations

from typing import Any

import arbitrary
import pytest
import torch
from arbitrary import draws
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.sequence import TEXT, SequenceView
from tokenprune.strategies.fastv import FastV
from tokenprune.strategies.pyramiddrop import PyramidDrop, retained
from tokenprune.strategy import Extent


def seen_by(view: SequenceView, **fields: Any) -> SequenceView:
    return SequenceView(view.frame, view.position, view.attention, view.frames, view.slot, **fields)


def test_the_layers_are_the_beginnings_of_equal_parts() -> None:
    assert PyramidDrop().layers(32) == (8, 16, 24)
    assert PyramidDrop().layers(28) == (7, 14, 21)
    assert PyramidDrop().layers(24) == (6, 12, 18)
    assert PyramidDrop(stages=3).layers(8) == (2, 5)
    assert PyramidDrop().layers(3) == (1, 2), "at least 1, and none twice"
    assert PyramidDrop(stages=8).layers(6) == (1, 2, 3, 4, 5)


def test_the_published_walk_through_three_events() -> None:
    frame = torch.full((40,), TEXT)
    frame[5:29] = torch.arange(24) // 6
    alive, strategy = torch.arange(40), PyramidDrop(keep=0.5)
    expected = [
        [7, 8, 9, 12, 13, 14, 15, 16, 19, 24, 25, 26],
        [8, 9, 14, 15, 19, 24],
        [8, 14, 19],
    ]
    seen = [24]
    for event, kept in enumerate(expected):
        attention = (4 * draws(21 + event, 4, len(alive))).softmax(-1).mean(0)
        layer = 8 * (event + 1)
        counts = torch.tensor(seen).repeat_interleave(8)
        view = SequenceView(frame[alive], alive, attention, 4, layer=layer, depth=32, seen=counts)
        alive = alive[strategy.prune(view, strategy.quota(view))]
        assert alive[frame[alive] != TEXT].tolist() == kept
        assert alive[frame[alive] == TEXT].tolist() == [*range(5), *range(29, 40)]
        seen.append(len(kept))


@given(st.data())
def test_of_two_parts_it_is_fastv(data: st.DataObject) -> None:
    view = data.draw(arbitrary.sequence_views())
    seen, total = view.visual.sum().repeat(4).cpu(), int(view.visual.sum())
    kept = data.draw(st.integers(0, total))
    keep = kept / total if total else 0.0  # where truncating and rounding agree
    two, one = PyramidDrop(keep=keep, stages=2), FastV(drop=1.0 - keep)
    there = seen_by(view, layer=4, depth=8, seen=seen)
    if int(keep * total) == kept:
        assert torch.equal(two.quota(there), one.quota(there))
        assert torch.equal(two.prune(there, two.quota(there)), one.prune(there, one.quota(there)))


@given(st.data(), st.floats(0.0, 1.0))
def test_survivors_only_get_fewer_and_text_stays(data: st.DataObject, keep: float) -> None:
    view = data.draw(arbitrary.sequence_views())
    strategy, seen = PyramidDrop(keep=keep), [int(view.visual.sum())] * 2
    for layer in (2, 4, 6):
        now = seen_by(view, layer=layer, depth=8, seen=torch.tensor(seen))
        quota = strategy.quota(now)
        kept = strategy.prune(now, quota)
        assert int(quota.sum()) == min(seen[-1], int(seen[0] * keep ** (layer // 2)))
        assert bool(kept[~now.visual].all())
        assert torch.equal(
            torch.bincount(now.frame[kept & now.visual], minlength=now.frames), quota
        )
        view = SequenceView(
            now.frame[kept], now.position[kept], now.attention[kept], now.frames, now.slot[kept]
        )
        seen += [int(quota.sum())] * 2


def silent(frame: Tensor, **fields: Any) -> SequenceView:
    """A view that has no attention to read."""
    return SequenceView(frame, torch.arange(len(frame)), **fields)


def test_everything_or_no_video_reads_nothing() -> None:
    frame = torch.tensor([TEXT, 0, 0, 1, TEXT])
    view = silent(frame, layer=2, depth=8, seen=torch.tensor([3, 3]))
    assert PyramidDrop(keep=1.0).quota(view).tolist() == [2, 1]
    assert PyramidDrop().prune(view, torch.tensor([2, 1])).all()
    text = silent(torch.full((3,), TEXT), layer=2, depth=8, seen=torch.tensor([0, 0]))
    assert PyramidDrop().quota(text).tolist() == []


def test_with_an_allocator_the_best_of_each_frame() -> None:
    frame = torch.tensor([TEXT, 0, 0, 0, 1, 1, 2, TEXT])
    attention = torch.tensor([0.0, 0.1, 0.3, 0.2, 0.9, 0.8, 0.7, 0.0])
    view = SequenceView(
        frame, torch.arange(8), attention, 3, layer=2, depth=8, seen=torch.tensor([6, 6])
    )
    assert PyramidDrop().quota(view).tolist() == [0, 2, 1]
    kept = PyramidDrop().prune(view, torch.tensor([2, 1, 0]))
    assert kept.tolist() == [True, False, True, True, True, False, False, True]


@pytest.mark.parametrize(("keep", "ratio"), [(0.4, 0.406), (0.5, 0.46875), (0.6, 0.544)])
def test_retention_of_the_paper(keep: float, ratio: float) -> None:
    extent = Extent(frames=1, cells=576, depth=32)
    assert retained(keep, (8, 16, 24), 32) == pytest.approx(ratio)
    found = PyramidDrop().retaining(ratio, extent)
    assert found.keep == pytest.approx(keep)
    assert PyramidDrop().retaining(0.46875, extent) == PyramidDrop(keep=0.5)
    assert round(576 * retained(0.5, (8, 16, 24), 32)) == 270, "as printed in its Table 5"


def test_what_cannot_be_reached_names_the_range() -> None:
    with pytest.raises(StrategyError, match=r"pyramiddrop retains 25.0% to 100.0% here, not 20.0%"):
        PyramidDrop().retaining(0.2, Extent(8, 196, 28))
    assert PyramidDrop().retaining(0.25, Extent(8, 196, 28)).keep == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="write 2 or more"):
        PyramidDrop(stages=1)
    with pytest.raises(ValueError, match="is not a fraction"):
        PyramidDrop(keep=1.5)
