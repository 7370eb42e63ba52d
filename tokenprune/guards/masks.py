"""The masks of prefill and decode stages: one true or false per row, and text lives.

Axes: `s` rows of a view, `m` those that are left, `f` frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.errors import StrategyError
from tokenprune.guards import blame
from tokenprune.guards.contract import (
    BUDGET,
    Counts,
    ask,
    breach,
    described,
    exact,
    read_at_once,
)
from tokenprune.guards.promises import Promises
from tokenprune.tokens import TEXT, SequenceView, Survivors

_MASK = "a mask has one true or false per row of the view, a bool tensor on its device"
_ROWS = "Survivors(rows=...) are int64 indices of the view's rows, each at most once"
_HIDDEN = "Survivors(hidden=...) has a row for each survivor, in the dtype of view.hidden"
_IN_ORDER = "text rows keep their order"
_BITS = "text rows go on as they are"
_TEXT = "text rows always survive"
_NOTED = "hosted.note_ascending is for rows that ascend"
_STATE = "attend returns a mask and the next state"
_SEEN = "every step sees all text"
_ANEW = "every sample starts anew"


class Left(NamedTuple):
    """What a prefill stage has left of a video.

    Args:
        total: visual rows
        counts: reads rows per frame before it, its budget, and rows per frame after it
        moved: whether the rows go on in another order
        rows: those that `Survivors` name; nothing else than rows of the view, whatever they said
    """

    total: int
    counts: Callable[[], Counts]
    moved: bool = False
    rows: Int[Tensor, "m"] | None = None


def survivors(
    stage: Any,
    view: SequenceView,
    budget: Int[Tensor, "f"],
    left: Any,
    promises: Promises | None = None,
) -> Left:
    """Holds what a prefill stage leaves, a mask or `Survivors`, to its rules.

    Of a built-in stage's mask, and of rows that are noted as ascending, nothing is read: what the
    host cannot know goes to `promises`, without which it is read at once.
    """
    if promises is not None and blame.foreign(type(stage)):
        promises = None
    if isinstance(left, Survivors):
        return _survivors(stage, view, budget, left, promises)
    _check_form(stage, "prune", view, left)
    frame, frames = view.frame, view.frames
    if promises is None:
        counts = _masked(stage, frame, frames, budget, left)
        return Left(sum(counts[2]), lambda: counts)
    total, there = hosted.total(budget), view.total
    if total < there:
        _promise(stage, frame, left, total, len(frame) - there, promises)
    return Left(total, lambda: _masked(stage, frame, frames, budget, left))


@torch.no_grad()
def _promise(
    stage: Any,
    frame: Int[Tensor, "s"],
    left: Bool[Tensor, "s"],
    total: int,
    text: int,
    promises: Promises,
) -> None:
    """All text, and as many visual rows as the budget has; which frames' is read with a report."""
    alive = left.sum()
    words = (left & (frame == TEXT)).sum()

    def verdict(read: Sequence[Any]) -> StrategyError | None:
        rows, kept = (int(number) for number in read)
        if kept != text:
            return breach(stage, "prune", f"dropped {text - kept} text rows", _TEXT)
        if rows != text + total:
            did = f"kept {rows - text} tokens where its budget was {total}"
            return breach(stage, "prune", did, BUDGET)
        return None

    promises.make([alive, words], verdict)


def _masked(
    stage: Any,
    frame: Int[Tensor, "s"],
    frames: int,
    budget: Int[Tensor, "f"],
    left: Bool[Tensor, "s"],
) -> Counts:
    """Reads the counts of a mask that keeps all text and its budget."""
    visual = frame != TEXT
    before, after = (_tally(frame, frames, rows) for rows in (visual, left & visual))
    text = ~left & ~visual
    (dropped,), counts = read_at_once(text.any().view(1), [before, budget, after], frames)
    if dropped:
        raise breach(stage, "prune", f"dropped {int(text.sum())} text rows", _TEXT)
    return exact(stage, "prune", counts)


def _survivors(
    stage: Any,
    view: SequenceView,
    budget: Int[Tensor, "f"],
    left: Survivors,
    promises: Promises | None,
) -> Left:
    rows, hidden = left
    if not _indices(rows, view):
        raise breach(stage, "prune", f"returned {described(rows)} as rows", _ROWS)
    if hidden is not None:
        _check_hidden(stage, view, rows, hidden)
    frame, frames, text = view.frame, view.frames, len(view.frame) - view.total
    if promises is None or not hosted.ascends(rows) or len(rows) != text + hosted.total(budget):
        counts, moved = _listed(stage, frame, frames, budget, rows)
        return Left(sum(counts[2]), lambda: counts, moved, rows)
    inside = _promise_rows(stage, frame, frames, budget, rows, text, promises)

    def counted() -> Counts:
        mask = torch.zeros_like(frame, dtype=torch.bool).index_fill_(0, inside, True)
        return _masked(stage, frame, frames, budget, mask)

    return Left(len(rows) - text, counted, rows=inside)


@torch.no_grad()
def _promise_rows(
    stage: Any,
    frame: Int[Tensor, "s"],
    frames: int,
    budget: Int[Tensor, "f"],
    rows: Int[Tensor, "m"],
    text: int,
    promises: Promises,
) -> Int[Tensor, "m"]:
    """Rows of the view that ascend, all text among them; returns them, fit to be looked up."""
    number = len(frame)
    inside = rows.clamp(0, number - 1)
    words = (frame.index_select(0, inside) == TEXT).sum()
    unordered = (rows[1:] <= rows[:-1]).any()

    def verdict(read: Sequence[Any]) -> StrategyError | None:
        low, high, kept, wrong = read
        if low >= 0 and high < number and kept == text and not wrong:
            return None
        try:
            _listed(stage, frame, frames, budget, rows)
        except StrategyError as error:
            return error
        return breach(stage, "prune", "noted rows as ascending, which are not", _NOTED)

    promises.make([*rows.aminmax(), words, unordered], verdict)
    return inside


def _listed(
    stage: Any,
    frame: Int[Tensor, "s"],
    frames: int,
    budget: Int[Tensor, "f"],
    rows: Int[Tensor, "m"],
) -> tuple[Counts, bool]:
    """Reads the counts of rows that keep the rules, and whether their order is another one."""
    visual, number = frame != TEXT, len(frame)
    outside = ((rows < 0) | (rows >= number)).any()
    inside = rows.clamp(0, number - 1)
    used = torch.zeros_like(frame).index_add(0, inside, torch.ones_like(inside))
    text = torch.where(visual[inside], -1, inside)
    mixed = (~visual[inside] & (text < text.cummax(0).values)).any()
    flags = torch.stack(
        [outside, (used > 1).any(), (~visual & (used == 0)).any(), mixed, (inside.diff() < 0).any()]
    )
    alive = (visual, (used > 0) & visual)
    before, after = (_tally(frame, frames, marked) for marked in alive)
    (strange, twice, dropped, mixed, moved), counts = read_at_once(
        flags, [before, budget, after], frames
    )
    if strange:
        raise breach(stage, "prune", f"returned rows that are not among the {number}", _ROWS)
    if twice:
        raise breach(stage, "prune", f"returned row {int(used.argmax())} twice", _ROWS)
    if dropped:
        lost = int((~visual & (used == 0)).sum())
        raise breach(stage, "prune", f"dropped {lost} text rows", _TEXT)
    if mixed:
        raise breach(stage, "prune", "moved text rows", _IN_ORDER)
    return exact(stage, "prune", counts), bool(moved)


def _indices(rows: Any, view: SequenceView) -> bool:
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.ndim != 1:
        return False
    return rows.device == view.frame.device and len(rows) > 0


def _check_hidden(stage: Any, view: SequenceView, rows: Int[Tensor, "m"], hidden: Any) -> None:
    """A third party's text rows are looked at; the laws have shown it of the built-in ones."""
    old = view.hidden
    form = (old.dtype, old.device, (len(rows), *old.shape[1:]))
    if not isinstance(hidden, Tensor) or (hidden.dtype, hidden.device, tuple(hidden.shape)) != form:
        did = f"returned {described(hidden)} as hidden for {len(rows)} rows of {described(old)}"
        raise breach(stage, "prune", did, _HIDDEN)
    if blame.foreign(type(stage)):
        text = ~view.visual[rows.clamp(0, len(old) - 1)]
        if not torch.equal(hidden[text], old[rows.clamp(0, len(old) - 1)[text]]):
            raise breach(stage, "prune", "changed text rows", _BITS)


def start(stage: Any, sample: int | None = None) -> Any:
    """The first state of a decode stage; a changeable one is made anew for every sample."""
    state, other = ask(stage, "start", sample=sample), ask(stage, "start", sample=sample)
    if state is other and isinstance(state, (list, dict, set, bytearray)):
        did = f"returned the same {type(state).__name__} twice"
        raise breach(stage, "start", did, _ANEW)
    return state


def shown(
    stage: Any, view: SequenceView, state: Any, first: bool, sample: int
) -> tuple[Bool[Tensor, "s"], Any]:
    """A decode stage's mask and its next state.

    Text is visible in any case: the laws have shown it of the built-in ones. Where reading that
    from a third party's mask would wait for a device, `first` steps alone do.
    """
    result = ask(stage, "attend", view, state, sample=sample)
    if not isinstance(result, tuple) or len(result) != 2:
        raise breach(stage, "attend", f"returned {described(result)}", _STATE)
    _check_form(stage, "attend", view, result[0])
    if not blame.foreign(type(stage)):
        return result
    text = ~view.visual
    waits = view.frame.device.type != "cpu" and not first
    if not waits and bool((~result[0] & text).any()):
        raise breach(stage, "attend", "hid text rows", _SEEN)
    return result[0] | text, result[1]


def _check_form(stage: Any, method: str, view: SequenceView, mask: Any) -> None:
    """What can be seen without a look at the device."""
    whole = isinstance(mask, Tensor) and mask.dtype == torch.bool
    if not whole or mask.shape != view.frame.shape or mask.device != view.frame.device:
        did = f"returned {described(mask)} for {len(view.frame)} rows"
        raise breach(stage, method, did, _MASK)


def _tally(frame: Int[Tensor, "s"], frames: int, rows: Bool[Tensor, "s"]) -> Int[Tensor, "f"]:
    """Marked rows per frame."""
    frame = torch.where(rows, frame, frames)
    return frame.new_zeros(frames + 1).index_add(0, frame, torch.ones_like(frame))[:-1]
