"""The masks of prefill and decode stages: one true or false per row, and text lives."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune.guards import blame
from tokenprune.guards.contract import Counts, ask, breach, described, exact, read_at_once
from tokenprune.tokens import SequenceView

_MASK = "a mask has one true or false per row of the view, a bool tensor on its device"
_TEXT = "text rows always survive"
_STATE = "attend returns a mask and the next state"
_SEEN = "every step sees all text"
_ANEW = "every sample starts anew"


def survivors(stage: Any, view: SequenceView, budget: Int[Tensor, "f"], mask: Any) -> Counts:
    """Holds the mask of a prefill stage to its rules.

    Returns rows per frame before it, its budget, and rows per frame after it.
    """
    _check_form(stage, "prune", view, mask)
    visual = view.visual
    before, after = (_tally(view, rows) for rows in (visual, mask & visual))
    text = ~mask & ~visual
    (dropped,), counts = read_at_once(text.any().view(1), [before, budget, after], view.frames)
    if dropped:
        raise breach(stage, "prune", f"dropped {int(text.sum())} text rows", _TEXT)
    return exact(stage, "prune", counts)


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

    Text is visible in any case. Where reading that from the mask would wait for a device, `first`
    steps alone do.
    """
    result = ask(stage, "attend", view, state, sample=sample)
    if not isinstance(result, tuple) or len(result) != 2:
        raise breach(stage, "attend", f"returned {described(result)}", _STATE)
    _check_form(stage, "attend", view, result[0])
    waits = view.frame.device.type != "cpu" and not first
    if blame.foreign(type(stage)) and not waits and bool((~result[0] & ~view.visual).any()):
        raise breach(stage, "attend", "hid text rows", _SEEN)
    return result


def _check_form(stage: Any, method: str, view: SequenceView, mask: Any) -> None:
    """What can be seen without a look at the device."""
    whole = isinstance(mask, Tensor) and mask.dtype == torch.bool
    if not whole or mask.shape != view.frame.shape or mask.device != view.frame.device:
        did = f"returned {described(mask)} for {len(view.frame)} rows"
        raise breach(stage, method, did, _MASK)


def _tally(view: SequenceView, rows: Bool[Tensor, "s"]) -> Int[Tensor, "f"]:
    """Marked rows per frame."""
    frame = torch.where(rows, view.frame, view.frames)
    return frame.new_zeros(view.frames + 1).index_add(0, frame, torch.ones_like(frame))[:-1]
