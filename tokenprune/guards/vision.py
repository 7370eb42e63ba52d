"""What a vision stage returns: tokens of its input, in order, each at most once, and finite."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.guards.contract import INTEGERS, Counts, breach, described, exact, read_at_once
from tokenprune.tokens import VisualTokens

_TOKENS = (
    "a vision stage returns VisualTokens of its input's frames and cells: select with tokens[...]"
)
_SIZES = "all tensors of VisualTokens have one row per token, and stay on the device"
_WHOLE = "frame and slot are whole numbers"
_FEATURES = "features keep width, dtype and device (tokens.with_features casts)"
_ORDER = "frames stay in order"
_SLOTS = "every slot of a frame at most once, and only slots that the input has in that frame"
_FINITE = "features are finite"
_FLOAT16 = ", and float16 ends at 65,504: write dtype=bfloat16"


def kept(stage: Any, tokens: VisualTokens, budget: Int[Tensor, "f"], after: Any) -> Counts:
    """Holds a stage's result to all its rules.

    Returns tokens per frame before it, its budget, and tokens per frame after it.
    """
    _check_form(stage, tokens, after)
    flags, counts = read_at_once(*_figures(tokens, after, budget), tokens.frames)
    unordered, strange, infinite = flags
    if unordered:
        raise _breach(stage, f"returned frames {_shown(after.frame)}", _ORDER)
    if strange:
        raise _breach(stage, _wrong_slot(tokens, after), _SLOTS)
    if infinite and bool(tokens.features.isfinite().all()):  # else it is the model's doing
        row = int((~after.features.isfinite()).any(1).nonzero()[0])
        where = f"slot {int(after.slot[row])} of frame {int(after.frame[row])}"
        narrow = _FLOAT16 if tokens.features.dtype == torch.float16 else ""
        raise _breach(stage, f"returned nan or inf at {where}", _FINITE + narrow)
    return exact(stage, "compress", counts)


def _breach(stage: Any, did: str, rule: str) -> StrategyError:
    return breach(stage, "compress", did, rule)


def _check_form(stage: Any, tokens: VisualTokens, after: Any) -> None:
    """What can be seen without a look at the device."""
    if not isinstance(after, VisualTokens):
        raise _breach(stage, f"returned {described(after)}", _TOKENS)
    if (after.frames, after.cells) != (tokens.frames, tokens.cells):
        was = f"{tokens.frames} of {tokens.cells}"
        raise _breach(
            stage, f"returned {after.frames} frames of {after.cells} cells for {was}", _TOKENS
        )
    old, new = tokens.features, after.features
    form = (old.dtype, old.device, old.shape[1:])
    if not isinstance(new, Tensor) or (new.dtype, new.device, new.shape[1:]) != form:
        raise _breach(stage, f"returned {described(new)} for {described(old)}", _FEATURES)
    for name in ("frame", "slot", "keys", "saliency"):
        _check_part(stage, name, getattr(after, name), new)


def _check_part(stage: Any, name: str, part: Any, features: Tensor) -> None:
    """A tensor that goes with the features, row by row."""
    if part is None and name in ("keys", "saliency"):
        return
    did = f"returned {described(part)} as {name}"
    if not isinstance(part, Tensor) or len(part) != len(features) or part.device != features.device:
        raise _breach(stage, f"{did} for {described(features)}", _SIZES)
    if name in ("frame", "slot") and (part.ndim != 1 or part.dtype not in INTEGERS):
        raise _breach(stage, did, _WHOLE)


@torch.no_grad()
def _figures(
    tokens: VisualTokens, after: VisualTokens, budget: Int[Tensor, "f"]
) -> tuple[Bool[Tensor, "k"], list[Int[Tensor, "f"]]]:
    """Which rules are broken, and tokens per frame before, asked for and after.

    All of it is still on the device.
    """
    places, frame, slot = tokens.frames * tokens.cells, after.frame.long(), after.slot.long()
    outside = (frame < 0) | (frame >= tokens.frames) | (slot < 0) | (slot >= tokens.cells)
    # one place more, for what has none
    here = torch.where(outside, places, frame * tokens.cells + slot)
    empty = here.new_zeros(places + 1)
    used = empty.index_add(0, here, torch.ones_like(here))[:-1]
    known = empty.index_fill(0, tokens.frame * tokens.cells + tokens.slot, 1)[:-1]
    strange = outside.any() | (used > known).any()  # not one of the input's, or again
    broken = [(frame.diff() < 0).any(), strange, ~_ends(after.features).isfinite().all()]
    before, left = (marked.view(tokens.frames, -1).sum(1) for marked in (known, used))
    return torch.stack(broken), [before, budget, left]


def _ends(features: Tensor) -> Tensor:
    """Minimum and maximum carry a nan along, in a tenth of the time that isfinite takes."""
    if not features.numel():
        return features.new_zeros(1)
    return torch.stack(features.aminmax())


def _wrong_slot(tokens: VisualTokens, after: VisualTokens) -> str:
    """The first slot of a result that is not its input's, or comes again."""
    known = set(zip(tokens.frame.tolist(), tokens.slot.tolist(), strict=True))
    seen: set[tuple[int, int]] = set()
    for place in zip(after.frame.tolist(), after.slot.tolist(), strict=True):
        if place in seen:
            return f"returned slot {place[1]} of frame {place[0]} twice"
        if place not in known:
            return f"returned slot {place[1]} of frame {place[0]}, which its input does not have"
        seen.add(place)
    raise AssertionError("the device and the host disagree")


def _shown(numbers: Tensor) -> str:
    some = numbers[:12].tolist()
    more = ", ..." if len(numbers) > len(some) else ""
    return f"[{', '.join(map(str, some))}{more}]"
