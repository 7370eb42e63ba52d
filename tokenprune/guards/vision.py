"""What a vision stage returns: tokens of its input, in order, each at most once, and finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenprune import hosted
from tokenprune.errors import StrategyError
from tokenprune.guards import blame, figures
from tokenprune.guards.contract import (
    BUDGET,
    INTEGERS,
    Counts,
    breach,
    described,
    exact,
    read_at_once,
)
from tokenprune.guards.promises import Promises
from tokenprune.tokens import PER_TOKEN, VisualTokens

_TOKENS = (
    "a vision stage returns VisualTokens of its input's frames and cells: select with tokens[...]"
)
_SIZES = "all tensors of VisualTokens have one row per token, and stay on the device"
_WHOLE = "frame and slot are whole numbers"
_FEATURES = "features keep width, dtype and device (tokens.with_features casts)"
_ORDER = "frames stay in order"
_SLOTS = "every slot of a frame at most once, and only slots that the input has in that frame"
_FINITE = "features are finite"
_MEMBERS = (
    "members have the row of the result for each token that came, -1 where it was dropped, and "
    "each row of the result holds the token of its own slot"
)
_MISNAMED = "returned members that name other tokens"
_FLOAT16 = ", and float16 ends at 65,504: write dtype=bfloat16"


def kept(
    stage: Any,
    tokens: VisualTokens,
    budget: Int[Tensor, "f"],
    after: Any,
    promises: Promises | None = None,
) -> Counts:
    """Holds a stage's result to all its rules.

    Returns tokens per frame before it, its budget, and tokens per frame after it. Of a built-in
    stage nothing is read: what the host cannot know goes to `promises`, without which it is read at
    once.
    """
    _check_form(stage, "compress", tokens, after)
    if promises is None or blame.foreign(type(stage)):
        return exact(stage, "compress", _held(stage, "compress", tokens, budget, after))
    before = [*hosted.per_frame(tokens.frame, tokens.frames)]
    asked = [*hosted.numbers(budget)]
    if len(after) != sum(asked):
        did = f"kept {len(after)} tokens where its budget was {asked}"
        raise breach(stage, "compress", did, BUDGET)
    _promise(stage, "compress", tokens, asked, after, promises)
    return before, asked, asked


def condensed(
    stage: Any, tokens: VisualTokens, after: Any, promises: Promises | None = None
) -> Counts:
    """The same for a condenser, whose budget is what it kept.

    Tokens per frame are read where the host does not know them of a built-in one's result.
    """
    _check_form(stage, "condense", tokens, after)
    told = None if promises is None or blame.foreign(type(stage)) else figures.left(after)
    if promises is None or told is None:
        before, _, left = _held(stage, "condense", tokens, tokens.counts, after)
        return before, left, left
    _promise(stage, "condense", tokens, told, after, promises)
    return [*hosted.per_frame(tokens.frame, tokens.frames)], told, told


def _promise(
    stage: Any,
    method: str,
    tokens: VisualTokens,
    left: list[int],
    after: VisualTokens,
    promises: Promises,
) -> None:
    """Frames in order, as many tokens of each as are `left`; every slot once, of the input's; no
    nan, no inf; members name them.
    """
    if not len(after):
        return
    old, new, named = _bare(tokens), _bare(after), after.members is not None

    def verdict(read: Sequence[Any]) -> StrategyError | None:
        lowest, highest, first, last, *rest = read
        least, most = (rest.pop(0), rest.pop(0)) if named else (0, 0)
        moved, *inside = rest
        if moved:
            return breach(stage, method, f"returned frames {_shown(new.frame)}", _ORDER)
        lost = least < -1 or most >= len(new)
        if first < 0 or last >= new.cells or any(number != len(new) for number in inside):
            if (wrong := _wrong_slot(old, new)) is not None:
                return breach(stage, method, wrong, _SLOTS)
            lost = True
        if not math.isfinite(lowest) or not math.isfinite(highest):
            return _infinite(stage, method, old.features, new)
        return breach(stage, method, _MISNAMED, _MEMBERS) if lost else None

    promises.make(figures.telling(tokens, left, after), verdict)


def _bare(tokens: VisualTokens) -> VisualTokens:
    """What a message needs of tokens, without what else they hold on to."""
    features = tokens.features.detach() if tokens.features.requires_grad else tokens.features
    frame, slot, frames, cells = tokens.frame, tokens.slot, tokens.frames, tokens.cells
    return VisualTokens(features, None, None, frame, slot, frames, cells)


def _infinite(
    stage: Any, method: str, old: Float[Tensor, "i d"], after: VisualTokens
) -> StrategyError | None:
    """The error for features that are not finite; None where the input's were not, either."""
    if not bool(old.isfinite().all()):  # it is the model's doing
        return None
    row = int((~after.features.isfinite()).any(1).nonzero()[0])
    where = f"slot {int(after.slot[row])} of frame {int(after.frame[row])}"
    narrow = _FLOAT16 if old.dtype == torch.float16 else ""
    return breach(stage, method, f"returned nan or inf at {where}", _FINITE + narrow)


def _held(
    stage: Any, method: str, tokens: VisualTokens, budget: Int[Tensor, "f"], after: Any
) -> Counts:
    flags, counts = read_at_once(*figures.of(tokens, after, budget), tokens.frames)
    unordered, strange, infinite, lost = flags
    if unordered:
        raise breach(stage, method, f"returned frames {_shown(after.frame)}", _ORDER)
    if strange:
        wrong = _wrong_slot(tokens, after)
        assert wrong is not None, "the device and the host disagree"
        raise breach(stage, method, wrong, _SLOTS)
    if infinite and (error := _infinite(stage, method, tokens.features, after)) is not None:
        raise error
    if lost:
        raise breach(stage, method, _MISNAMED, _MEMBERS)
    return counts


def _check_form(stage: Any, method: str, tokens: VisualTokens, after: Any) -> None:
    """What can be seen without a look at the device."""
    if not isinstance(after, VisualTokens):
        raise breach(stage, method, f"returned {described(after)}", _TOKENS)
    if (after.frames, after.cells) != (tokens.frames, tokens.cells):
        was = f"{tokens.frames} of {tokens.cells}"
        did = f"returned {after.frames} frames of {after.cells} cells for {was}"
        raise breach(stage, method, did, _TOKENS)
    old, new = tokens.features, after.features
    form = (old.dtype, old.device, old.shape[1:])
    if not isinstance(new, Tensor) or (new.dtype, new.device, new.shape[1:]) != form:
        raise breach(stage, method, f"returned {described(new)} for {described(old)}", _FEATURES)
    for name in PER_TOKEN[1:]:
        _check_part(stage, method, name, getattr(after, name), new)
    if (members := after.members) is not None:
        did = f"returned {described(members)} as members for {len(old)} tokens"
        if not isinstance(members, Tensor) or members.shape != old.shape[:1]:
            raise breach(stage, method, did, _MEMBERS)
        if members.dtype not in INTEGERS or members.device != old.device:
            raise breach(stage, method, did, _MEMBERS)


def _check_part(stage: Any, method: str, name: str, part: Any, features: Tensor) -> None:
    """A tensor that goes with the features, row by row."""
    if part is None and name not in ("frame", "slot"):
        return
    did = f"returned {described(part)} as {name}"
    if not isinstance(part, Tensor) or len(part) != len(features) or part.device != features.device:
        raise breach(stage, method, f"{did} for {described(features)}", _SIZES)
    if name in ("frame", "slot") and (part.ndim != 1 or part.dtype not in INTEGERS):
        raise breach(stage, method, did, _WHOLE)


def _wrong_slot(tokens: VisualTokens, after: VisualTokens) -> str | None:
    """The first slot of a result that is not its input's, or comes again; None if there is none."""
    known = set(zip(tokens.frame.tolist(), tokens.slot.tolist(), strict=True))
    seen: set[tuple[int, int]] = set()
    for place in zip(after.frame.tolist(), after.slot.tolist(), strict=True):
        if place in seen:
            return f"returned slot {place[1]} of frame {place[0]} twice"
        if place not in known:
            return f"returned slot {place[1]} of frame {place[0]}, which its input does not have"
        seen.add(place)
    return None


def _shown(numbers: Tensor) -> str:
    some = numbers[:12].tolist()
    more = ", ..." if len(numbers) > len(some) else ""
    return f"[{', '.join(map(str, some))}{more}]"
