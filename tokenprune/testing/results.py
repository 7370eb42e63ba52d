"""What holds of tokens that a vision stage or a condenser returns, whatever it chose."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenprune.testing.law import applies, holds
from tokenprune.tokens import PER_TOKEN, VisualTokens

SELECT = "select with tokens[...]"


def check_form(after: Any, before: VisualTokens) -> None:
    """Tensors of the input's width, dtype and device, one row per token, and finite features."""
    holds(isinstance(after, VisualTokens), f"returned {type(after).__name__}, not VisualTokens")
    sizes = [(tokens.frames, tokens.cells) for tokens in (after, before)]
    holds(
        sizes[0] == sizes[1],
        f"returned {sizes[0][0]} frames of {sizes[0][1]} cells for {sizes[1][0]} of {sizes[1][1]}: "
        f"{SELECT}",
    )
    for name in PER_TOKEN:
        old, new = getattr(before, name), getattr(after, name)
        if not isinstance(new, Tensor):
            optional = new is None and name not in ("features", "frame", "slot")
            holds(optional, f"returned {type(new).__name__} as {name}")
            continue
        holds(len(new) == len(after.frame), f"returned {len(new)} {name} for {len(after)} tokens")
        if old is not None:
            forms = [(part.dtype, part.device, part.shape[1:]) for part in (new, old)]
            holds(
                forms[0] == forms[1],
                f"changed width, dtype or device of {name}: {_form(new)} for {_form(old)}",
            )
    holds(
        after.features.isfinite().all() or not before.features.isfinite().all(),
        "returned features that are not finite",
    )


def _form(part: Tensor) -> str:
    return f"{str(part.dtype).removeprefix('torch.')}{[*part.shape]} on {part.device}"


def check_addresses(after: VisualTokens, before: VisualTokens) -> None:
    """Frames in order; every token with the frame and slot of one token of the input."""
    holds((after.frame.diff() >= 0).all(), "returned frames out of order")
    place, known = address(after), address(before)
    holds(len(place.unique()) == len(place), "returned a slot of a frame twice")
    holds(torch.isin(place, known).all(), "returned a slot that its input does not have")


def check_untouched(after: VisualTokens, before: VisualTokens) -> None:
    """Every row is the input's row of that frame and slot, bit for bit."""
    rows = rows_of(after, before)
    for name in PER_TOKEN:
        old, new = getattr(before, name), getattr(after, name)
        if old is not None and new is not None:
            holds(torch.equal(new, old[rows]), f"changed {name}, and says merges = False")


def check_members(after: VisualTokens, before: VisualTokens) -> None:
    """`members`: of every token of the input a row of the result, or -1."""
    applies(after.members is not None, "records no members")
    members = after.members
    assert members is not None
    holds(members.dtype == torch.int64, f"members are {members.dtype}, not int64")
    holds(
        members.shape == (len(before),),
        f"there are {len(members)} members for {len(before)} tokens of the input",
    )
    if not len(members):
        return
    lowest, highest = int(members.min()), int(members.max())
    holds(
        lowest >= -1 and highest < len(after),
        f"members are {lowest} to {highest} where {len(after)} rows were kept: -1 is dropped",
    )
    own = members[rows_of(after, before)]
    holds(
        torch.equal(own, torch.arange(len(after), device=own.device)),
        "a kept row does not stand for the token whose frame and slot it carries",
    )
    sizes = torch.bincount(members[members >= 0], minlength=len(after))
    holds(
        int(sizes.sum()) == int((members >= 0).sum()) and bool((sizes >= 1).all()),
        "the members of all rows do not add up to the tokens that went into one",
    )


def address(tokens: VisualTokens) -> Int[Tensor, "n"]:
    """One number for frame and slot."""
    return tokens.frame * tokens.cells + tokens.slot


def rows_of(after: VisualTokens, before: VisualTokens) -> Int[Tensor, "m"]:
    """Of every token of a result the row of the input that has its frame and slot."""
    place = address(before)
    where = place.new_full((before.frames * before.cells,), -1)
    where[place] = torch.arange(len(place), device=place.device)
    rows = where[address(after)]
    holds((rows >= 0).all(), "returned a slot that its input does not have")
    return rows


def by_address(tokens: VisualTokens) -> Tensor:
    """The features in order of frame and slot."""
    return tokens.features[address(tokens).argsort()]
