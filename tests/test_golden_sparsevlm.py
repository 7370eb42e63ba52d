"""SparseVLM's released raters, and its events with and without what is recycled."""

from __future__ import annotations

import pytest
import torch
from golden_cases import array, close, named
from torch import Tensor

from tokenprune.sequence import TEXT, Heads, Reading, SequenceView, Survivors
from tokenprune.strategies.sparsevlm import SparseVLM, relevance

LAYER = 3  # of 32: the first event


class Rated(Reading):
    """A prompt that is seen by its text rows as a table says: `rating` of them resemble it."""

    def __init__(self, meta: tuple[int, int, int], table: Tensor, rating: Tensor, hidden: Tensor):
        self._start, self._visual, text = meta
        self._table, self._hidden = table, hidden
        self._inputs = torch.zeros(len(hidden), 2)
        self._inputs[self._start : self._start + self._visual, 0] = 1
        self._inputs[self._start + self._visual + rating, 0] = 1
        assert len(hidden) == self._start + self._visual + text

    @property
    def hidden(self) -> Tensor:
        return self._hidden

    @property
    def normed(self) -> Tensor:
        raise NotImplementedError

    @property
    def keys(self) -> Tensor:
        raise NotImplementedError

    @property
    def inputs(self) -> Tensor:
        return self._inputs

    def attend(self, rows: Tensor, heads: Heads = "mean") -> Tensor:
        assert heads == "mean"
        text = self._start + self._visual
        seen = torch.zeros(len(self._hidden))
        seen[self._start : text] = self._table[:, rows - text].mean(dim=(0, 1))
        return seen

    def last(self) -> Tensor:
        raise NotImplementedError


def view_of(file: str, case: str) -> SequenceView:
    start, visual, text = meta = tuple(array(file, f"e{case}_meta").tolist())
    rating, table, hidden = (
        array(file, f"e{case}_{name}") for name in ("raters", "attention", "hidden")
    )
    frame = torch.full((start + visual + text,), TEXT)
    frame[start : start + visual] = torch.arange(visual) * 4 // visual
    return SequenceView(
        frame,
        torch.arange(len(frame)),
        frames=4,
        layer=LAYER,
        depth=32,
        seen=torch.full((LAYER,), visual),
        reading=Rated(meta, table, rating, hidden),
    )


def numbered(file: str, case: str, name: str) -> list[int]:
    """Rows of the prompt from what the file counts among visual rows."""
    start = int(array(file, f"e{case}_meta")[0])
    return [start + row for row in array(file, f"e{case}_{name}").tolist()]


@pytest.mark.parametrize(("file", "case"), named(r"r(\d+)_relevance", of="sparsevlm"))
def test_raters(file: str, case: str) -> None:
    visual, text = (array(file, f"r{case}_{name}") for name in ("visual", "text"))
    found = relevance(visual, text)
    close(found, array(file, f"r{case}_relevance"))
    expected = array(file, f"r{case}_raters")
    assert (found > found.mean()).nonzero().squeeze(-1).tolist() == expected.tolist()

    # and through the strategy: only they are asked, and each looks at a row of its own
    class Asked(Rated):
        @property
        def inputs(self) -> Tensor:
            return torch.cat([visual, text])

        def attend(self, rows: Tensor, heads: Heads = "mean") -> Tensor:
            assert (rows - len(visual)).tolist() == expected.tolist()
            return torch.zeros(len(visual) + len(text))

    both = torch.cat([visual, text])
    frame = torch.tensor([0] * len(visual) + [TEXT] * len(text))
    reading = Asked((0, len(visual), len(text)), both, expected, both)
    view = SequenceView(frame, torch.arange(len(frame)), layer=LAYER, depth=32, reading=reading)
    assert int(SparseVLM(recycle=False, keep=(0.5,), after=(2,)).quota(view)) == len(visual) // 2


@pytest.mark.parametrize(("file", "case"), named(r"e(\d+)_meta", of="sparsevlm"))
def test_an_event(file: str, case: str) -> None:
    view = view_of(file, case)
    start, visual, _ = array(file, f"e{case}_meta").tolist()
    keep = int(array(file, f"e{case}_keep")) / visual
    table = view.attend(start + visual + array(file, f"e{case}_raters"))
    close(table[view.visual], array(file, f"e{case}_relation"))

    alone = SparseVLM(keep=(keep,), after=(2,), recycle=False)
    left = alone.prune(view, alone.quota(view))
    assert isinstance(left, Survivors)
    assert left.hidden is not None
    kept = left.rows[view.visual[left.rows]]
    assert kept.tolist() == numbered(file, case, "kept")
    assert torch.equal(left.hidden, view.hidden[left.rows])


@pytest.mark.parametrize(("file", "case"), named(r"e(\d+)_output", of="sparsevlm"))
def test_an_event_with_what_it_recycles(file: str, case: str) -> None:
    view = view_of(file, case)
    visual = int(array(file, f"e{case}_meta")[1])
    keep = int(array(file, f"e{case}_keep")) / visual
    released = SparseVLM(keep=(keep,), after=(2,), follow="released")
    quota = released.quota(view)
    left = released.prune(view, quota)
    assert isinstance(left, Survivors)
    assert left.hidden is not None
    close(left.hidden, array(file, f"e{case}_output"))
    assert int(quota.sum()) == int(array(file, f"e{case}_visual_after"))
    assert released.positions == "contiguous"
    assert array(file, f"e{case}_position").tolist() == [*range(len(left.rows))]

    kept, recycled = numbered(file, case, "kept"), numbered(file, case, "recycled")
    clusters = int(quota.sum()) - len(kept)
    carriers = left.rows[view.visual[left.rows]][len(kept) :].tolist()
    if clusters > 1:
        assert carriers == [recycled[i] for i in array(file, f"e{case}_centres").tolist()]
    assert len(carriers) == clusters
    assert {*carriers} <= {*recycled}

    # ours: the same rows, each where it was
    ours = SparseVLM(keep=(keep,), after=(2,))
    own = ours.prune(view, ours.quota(view))
    assert isinstance(own, Survivors)
    assert own.hidden is not None
    order = left.rows.argsort()
    assert torch.equal(own.rows, left.rows[order])
    assert torch.equal(own.hidden, left.hidden[order])
    assert ours.positions == "original"


@pytest.mark.parametrize(("file", "case"), named(r"e(\d+)_rank", of="sparsevlm"))
def test_the_rank_says_how_many(file: str, case: str) -> None:
    view = view_of(file, case)
    by_rank = SparseVLM(keep=(1.0,), after=(2,), count="rank", recycle=False)
    left = by_rank.prune(view, by_rank.quota(view))
    assert isinstance(left, Survivors)
    kept = left.rows[view.visual[left.rows]]
    assert kept.tolist() == numbered(file, case, "rank_kept")
    rank = int(array(file, f"e{case}_rank"))
    assert len(kept) == min(rank, int(view.visual.sum()) - 1)
