"""The laws of prefill stages: masks and survivors, one layer and several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.errors import TokenpruneError
from tokenprune.strategy import PrefillStage
from tokenprune.testing.cases import OfRows
from tokenprune.testing.equal import copied, same, shown
from tokenprune.testing.inputs import disturbed_view
from tokenprune.testing.law import applies, holds, law
from tokenprune.testing.vision import MERGES, MIXES, check_quota
from tokenprune.tokens import SequenceView, Survivors

DEPTHS = (4, 6, 12, 28, 32)


def asked(stage: PrefillStage, case: OfRows) -> list[Int[Tensor, "f"]]:
    """The budgets that it has to keep: its own, and where an allocator may host, any and all."""
    own = stage.quota(case.view)
    return [own, case.budget, case.view.counts] if stage.reallocates else [own]


def outcomes(stage: PrefillStage, case: OfRows) -> Iterator[tuple[Any, Int[Tensor, "f"]]]:
    for given in asked(stage, case):
        yield stage.prune(case.view, given), given


def rows_of(left: Any, view: SequenceView) -> Int[Tensor, "m"]:
    """The rows that live, in the order in which they go on."""
    return left.rows if isinstance(left, Survivors) else left.nonzero().squeeze(-1)


@law("a quota is one whole number per frame, from none to all of its rows")
def quota(stage: Any, case: OfRows) -> None:
    check_quota(stage.quota(case.view), case.view)


@law("prune returns a mask of the view's rows, or Survivors in the dtype of view.hidden")
def form(stage: Any, case: OfRows) -> None:
    for left, _ in outcomes(stage, case):
        check_form(left, case.view)


@law("exactly the budget of every frame lives: its own, and any that an allocator gives")
def budget(stage: Any, case: OfRows) -> None:
    for left, given in outcomes(stage, case):
        check_budget(left, case.view, given)


@law("all text lives, in its order and bit for bit")
def text(stage: Any, case: OfRows) -> None:
    for left, _ in outcomes(stage, case):
        check_text(left, case.view)


@law("a row lives at most once")
def once(stage: Any, case: OfRows) -> None:
    for left, _ in outcomes(stage, case):
        check_once(left, case.view)


def check_event(left: Any, view: SequenceView, given: Int[Tensor, "f"]) -> None:
    """All of that of what `prune` returned."""
    check_form(left, view)
    check_budget(left, view, given)
    check_text(left, view)
    check_once(left, view)


def check_form(left: Any, view: SequenceView) -> None:
    if not isinstance(left, Survivors):
        holds(isinstance(left, Tensor), f"prune returned {type(left).__name__}")
        found = (left.dtype, left.device, left.shape)
        holds(
            found == (torch.bool, view.frame.device, view.frame.shape),
            f"prune returned {left.dtype}{[*left.shape]} for {len(view.frame)} rows: a mask has "
            "one true or false per row",
        )
        return
    rows, hidden = left
    holds(rows.dtype == torch.int64 and rows.ndim == 1, f"rows are {rows.dtype}{[*rows.shape]}")
    inside = not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(view.frame))
    holds(inside, f"rows are not indices of the {len(view.frame)} rows of the view")
    if hidden is not None:
        stock = view.hidden
        expected = (stock.dtype, stock.device, (len(rows), *stock.shape[1:]))
        holds(
            (hidden.dtype, hidden.device, (*hidden.shape,)) == expected,
            f"hidden is {hidden.dtype}{[*hidden.shape]} for {len(rows)} rows of {stock.dtype}"
            f"{[*stock.shape[1:]]}",
        )
        holds(hidden.isfinite().all(), "hidden states are not finite")


def check_budget(left: Any, view: SequenceView, given: Int[Tensor, "f"]) -> None:
    frame = view.frame[rows_of(left, view)]
    counts = torch.bincount(frame[frame >= 0], minlength=view.frames)
    holds(torch.equal(counts, given), f"kept {shown(counts)} of a budget {shown(given)}")


def check_text(left: Any, view: SequenceView) -> None:
    words, rows = (~view.visual).nonzero().squeeze(-1), rows_of(left, view)
    spoken = ~view.visual[rows]
    holds(torch.isin(words, rows).all(), "text was dropped")
    holds(torch.equal(rows[spoken], words), "text went out of order, or twice")
    if isinstance(left, Survivors) and left.hidden is not None:
        same_words = torch.equal(left.hidden[spoken], view.hidden[words])
        holds(same_words, "hidden states of text changed")


def check_once(left: Any, view: SequenceView) -> None:
    rows = rows_of(left, view)
    holds(len(rows.unique()) == len(rows), "a row lives twice")


@law("the same view gives the same result, whatever came in between")
def deterministic(stage: Any, case: OfRows) -> None:
    first = [left for left, _ in outcomes(stage, case)]
    if case.between is not None:
        empty = torch.zeros_like(case.between.counts)
        with suppress(TokenpruneError):  # what it refuses is not this law's matter
            list(outcomes(stage, OfRows(case.between, empty)))
    again = [left for left, _ in outcomes(stage, case)]
    holds(all(map(same, first, again)), "the same view gave another result")


@law("the view is read only")
def read_only(stage: Any, case: OfRows) -> None:
    before = copied(case.view)
    list(outcomes(stage, case))
    holds(same(case.view, before), "wrote into its input: clone() what you change")


@law("a full budget changes nothing")
def identity(stage: Any, case: OfRows) -> None:
    view = case.view
    own, full = stage.quota(view), view.counts
    applies(stage.reallocates or torch.equal(own, full), "it only takes budgets of its own")
    left = stage.prune(view, full)
    everything = torch.arange(len(view.frame), device=view.frame.device)
    holds(torch.equal(rows_of(left, view), everything), "a full budget moved rows")
    if isinstance(left, Survivors) and left.hidden is not None:
        holds(torch.equal(left.hidden, view.hidden), "a full budget changed rows")


@law("under a budget, what a frame keeps does not depend on other frames")
def isolation(stage: Any, case: OfRows) -> None:
    applies(not stage.mixes_frames, MIXES)
    applies(stage.reallocates, "it only takes budgets of its own")
    one = stage.prune(case.view, case.budget)
    two = stage.prune(disturbed_view(case.view, case.disturbed), case.budget)
    kept = [_elsewhere(left, case) for left in (one, two)]
    holds(
        same(*kept),
        f"other contents of frame {case.disturbed} changed what other frames keep: say "
        "mixes_frames: ClassVar[bool] = True if they should",
    )


def _elsewhere(left: Any, case: OfRows) -> tuple[Any, ...]:
    """What lives outside the frame that was disturbed."""
    rows = rows_of(left, case.view)
    outside = case.view.frame[rows] != case.disturbed
    hidden = left.hidden if isinstance(left, Survivors) else None
    return rows[outside], None if hidden is None else hidden[outside]


@law("a stage that does not merge leaves its rows as they are, bit for bit")
def untouched(stage: Any, case: OfRows) -> None:
    applies(not stage.merges, MERGES)
    for left, _ in outcomes(stage, case):
        if isinstance(left, Survivors) and left.hidden is not None:
            holds(
                torch.equal(left.hidden, case.view.hidden[left.rows]),
                "changed hidden states, and says merges = False",
            )


@law("layers are ascending, each once, and inside the language model")
def layers(stage: Any, depth: int) -> None:
    found = stage.layers(depth)
    whole = isinstance(found, tuple) and all(type(layer) is int for layer in found)
    holds(whole, f"layers({depth}) returned {found!r}: a tuple of whole numbers")
    holds(all(a < b for a, b in pairwise(found)), f"layers({depth}) returned {found}: ascending")
    fits = all(1 <= layer < depth for layer in found)
    # a layer that is an option need not fit every language model
    applies(fits or not hasattr(stage, "layer"), f"acts before layers {found}, not among {depth}")
    holds(fits, f"layers({depth}) returned {found}: they lie from 1 to {depth - 1}")
    holds(stage.layers(depth) == found, f"layers({depth}) are other ones when asked again")


PREFILL = (
    quota,
    form,
    budget,
    text,
    once,
    identity,
    deterministic,
    read_only,
    isolation,
    untouched,
)
