"""What a strategy returns is held to the contract, in every run: an error names the file, the class
and the rule.

All that a rule has to read from the device is read at once, one wait per stage. Only a third
party's strategy is also watched for what it does to its input and to itself: for the built-in ones
the laws in the tests have shown it. `docs/design/2026-11-27-contract-checks.md` has the reasons and
what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenprune.errors import StrategyError
from tokenprune.guards import blame
from tokenprune.guards.watch import watched
from tokenprune.tokens import SequenceView, Signals, VisualTokens

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_QUOTA = (
    "a quota is one whole number per frame, an integer tensor on its input's device "
    "(ops.count makes one)"
)
_TOKENS = (
    "a vision stage returns VisualTokens of its input's frames and cells: select with tokens[...]"
)
_SIZES = "all tensors of VisualTokens have one row per token, and stay on the device"
_FEATURES = "features keep width, dtype and device (tokens.with_features casts)"
_ORDER = "frames stay in order"
_SLOTS = "every slot of a frame at most once, and only slots that the input has in that frame"
_MASK = "a mask has one true or false per row of the view, a bool tensor on its device"
_TEXT = "text rows always survive"
_BUDGET = "a stage keeps exactly its budget"
_WEIGHTS = "an allocator returns one weight per frame, finite, not negative and not all zero"
_STATE = "attend returns a mask and the next state"

Counts = tuple[list[int], list[int], list[int]]  # per frame: before a stage, its budget, after it


def breach(strategy: Any, method: str, did: str, rule: str) -> StrategyError:
    """The error of a strategy whose `method` did what the contract does not allow."""
    kind = type(strategy)
    return StrategyError(
        f"{blame.home(kind, method)}: {kind.__name__}.{method} {did}: {rule} "
        "(docs/write-a-strategy.md)"
    )


def ask(strategy: Any, method: str, *arguments: Any, sample: int | None = None) -> Any:
    """The result of a strategy's method, which leaves its input and the strategy as they are."""
    kind, action = type(strategy), getattr(strategy, method)
    if not blame.foreign(kind):
        return action(*arguments)
    with watched(strategy, method, arguments) as harm:
        result = blame.call(kind, method, action, *arguments, sample=sample)
    if harm:
        raise breach(strategy, method, *harm[0])
    return result


def signals(reader: Any) -> Signals:
    """What a `TowerReader` wants recorded."""
    wanted = ask(reader, "signals")
    for name, hint in get_type_hints(Signals).items():
        known = [word for part in get_args(hint) for word in get_args(part)]  # Literal[...] | None
        if not isinstance(wanted, Signals) or getattr(wanted, name) not in (*known, None):
            said = getattr(wanted, name) if isinstance(wanted, Signals) else wanted
            raise breach(
                reader,
                "signals",
                f"returned {said!r}",
                f"Signals({name}=...) is one of {known}, or None",
            )
    return wanted


def agreed_signals(readers: Sequence[Any]) -> Signals:
    """What several `TowerReader`s want recorded together; StrategyError where they differ."""
    wanted = {reader.name: signals(reader) for reader in readers}
    agreed: dict[str, Any] = {}
    for kind in Signals._fields:
        sources = {name: getattr(asked, kind) for name, asked in wanted.items()}
        sources = {name: source for name, source in sources.items() if source is not None}
        different = sorted(set(sources.values()))
        if len(different) > 1:
            raise StrategyError(
                f"{' and '.join(sources)} read different {kind} ({', '.join(different)}): "
                "keep one of them"
            )
        agreed[kind] = different[0] if different else None
    return Signals(**agreed)


def quota(
    stage: Any, seen: VisualTokens | SequenceView, sample: int | None = None
) -> Int[Tensor, "f"]:
    """How many tokens of each frame a stage would keep: from none to all there are."""
    asked, available = ask(stage, "quota", seen, sample=sample), seen.counts
    if not isinstance(asked, Tensor) or asked.dtype not in _INTEGERS:
        raise breach(stage, "quota", f"returned {_kind(asked)}", _QUOTA)
    if asked.shape != available.shape or asked.device != available.device:
        raise breach(stage, "quota", f"returned {_kind(asked)} for {len(available)} frames", _QUOTA)
    asked = asked.long()
    wanted, there = torch.stack([asked, available]).tolist()
    if any(not 0 <= number <= most for number, most in zip(wanted, there, strict=True)):
        raise breach(
            stage,
            "quota",
            f"asks for {wanted} tokens per frame, there are {there}",
            "from 0 to all of them",
        )
    return asked


def kept(stage: Any, tokens: VisualTokens, budget: Int[Tensor, "f"], after: Any) -> Counts:
    """Holds the result of a vision stage to all its rules; tokens per frame before it, its budget,
    and after it.
    """
    _check_form(stage, tokens, after)
    flags, counts = _read(*_figures(tokens, after, budget), tokens.frames)
    unordered, strange, infinite = flags
    if unordered:
        raise breach(stage, "compress", f"returned frames {_shown(after.frame)}", _ORDER)
    if strange:
        raise breach(stage, "compress", _wrong_slot(tokens, after), _SLOTS)
    if infinite and bool(tokens.features.isfinite().all()):  # else it is the model's doing
        row = int((~after.features.isfinite()).any(1).nonzero()[0])
        where = f"slot {int(after.slot[row])} of frame {int(after.frame[row])}"
        narrow = (
            ", and float16 ends at 65,504: write dtype=bfloat16"
            if tokens.features.dtype == torch.float16
            else ""
        )
        raise breach(
            stage, "compress", f"returned nan or inf at {where}", f"features are finite{narrow}"
        )
    return _exact(stage, "compress", counts)


def survivors(stage: Any, view: SequenceView, budget: Int[Tensor, "f"], mask: Any) -> Counts:
    """Holds the mask of a prefill stage to its rules; rows per frame before it, its budget, and
    after it.
    """
    _check_mask(stage, "prune", view, mask)
    visual = view.visual
    before, after = (_tally(view, rows) for rows in (visual, mask & visual))
    (dropped,), counts = _read(
        (~mask & ~visual).any().view(1), [before, budget, after], view.frames
    )
    if dropped:
        raise breach(stage, "prune", f"dropped {int((~mask & ~visual).sum())} text rows", _TEXT)
    return _exact(stage, "prune", counts)


def weights(allocator: Any, frames: int, given: Any) -> Float[Tensor, "f"]:
    """An allocator's weights, in float32."""
    if not isinstance(given, Tensor) or given.dtype == torch.bool or given.is_complex():
        raise breach(allocator, "weigh", f"returned {_kind(given)}", _WEIGHTS)
    if given.shape != (frames,):
        raise breach(allocator, "weigh", f"returned {_kind(given)} for {frames} frames", _WEIGHTS)
    values = given.tolist()
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise breach(
            allocator, "weigh", f"returned {[float(f'{value:.4g}') for value in values]}", _WEIGHTS
        )
    return given.float()


def start(stage: Any, sample: int | None = None) -> Any:
    """The first state of a decode stage; a changeable one is made anew for every sample."""
    state, other = ask(stage, "start", sample=sample), ask(stage, "start", sample=sample)
    if state is other and isinstance(state, (list, dict, set, bytearray)):
        raise breach(
            stage,
            "start",
            f"returned the same {type(state).__name__} twice",
            "every sample starts anew",
        )
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
        raise breach(stage, "attend", f"returned {_kind(result)}", _STATE)
    _check_mask(stage, "attend", view, result[0])
    waits = view.frame.device.type != "cpu" and not first
    if blame.foreign(type(stage)) and not waits and bool((~result[0] & ~view.visual).any()):
        raise breach(stage, "attend", "hid text rows", "every step sees all text")
    return result


def _check_form(stage: Any, tokens: VisualTokens, after: Any) -> None:
    """What can be seen without a look at the device."""
    if not isinstance(after, VisualTokens):
        raise breach(stage, "compress", f"returned {_kind(after)}", _TOKENS)
    if (after.frames, after.cells) != (tokens.frames, tokens.cells):
        sizes = (
            f"{after.frames} frames of {after.cells} cells for {tokens.frames} of {tokens.cells}"
        )
        raise breach(stage, "compress", f"returned {sizes}", _TOKENS)
    old, new = tokens.features, after.features
    if not isinstance(new, Tensor) or (new.dtype, new.device, new.shape[1:]) != (
        old.dtype,
        old.device,
        old.shape[1:],
    ):
        raise breach(stage, "compress", f"returned {_kind(new)} for {_kind(old)}", _FEATURES)
    for name in ("frame", "slot", "keys", "saliency"):
        part = getattr(after, name)
        if part is None and name in ("keys", "saliency"):
            continue
        if not isinstance(part, Tensor) or len(part) != len(new) or part.device != old.device:
            raise breach(
                stage, "compress", f"returned {_kind(part)} as {name} for {_kind(new)}", _SIZES
            )
        if name in ("frame", "slot") and (part.ndim != 1 or part.dtype not in _INTEGERS):
            raise breach(
                stage,
                "compress",
                f"returned {_kind(part)} as {name}",
                "frame and slot are whole numbers",
            )


def _check_mask(stage: Any, method: str, view: SequenceView, mask: Any) -> None:
    whole = isinstance(mask, Tensor) and mask.dtype == torch.bool
    if not whole or mask.shape != view.frame.shape or mask.device != view.frame.device:
        raise breach(stage, method, f"returned {_kind(mask)} for {len(view.frame)} rows", _MASK)


@torch.no_grad()
def _figures(
    tokens: VisualTokens, after: VisualTokens, budget: Int[Tensor, "f"]
) -> tuple[Bool[Tensor, "k"], list[Int[Tensor, "f"]]]:
    """Which rules are broken, and tokens per frame before, asked for and after; all still on the
    device.
    """
    places, frame, slot = tokens.frames * tokens.cells, after.frame.long(), after.slot.long()
    outside = (frame < 0) | (frame >= tokens.frames) | (slot < 0) | (slot >= tokens.cells)
    # one place more, for what has none
    here = torch.where(outside, places, frame * tokens.cells + slot)
    empty = here.new_zeros(places + 1)
    used = empty.index_add(0, here, torch.ones_like(here))[:-1]
    known = empty.index_fill(0, tokens.frame * tokens.cells + tokens.slot, 1)[:-1]
    # minimum and maximum carry a nan along, in a tenth of the time that isfinite takes
    ends = (
        torch.stack(after.features.aminmax())
        if after.features.numel()
        else after.features.new_zeros(1)
    )
    strange = outside.any() | (used > known).any()  # not one of the input's, or again
    broken = [(frame.diff() < 0).any(), strange, ~ends.isfinite().all()]
    before, left = (places.view(tokens.frames, -1).sum(1) for places in (known, used))
    return torch.stack(broken), [before, budget, left]


def _tally(view: SequenceView, rows: Bool[Tensor, "s"]) -> Int[Tensor, "f"]:
    """Marked rows per frame."""
    frame = torch.where(rows, view.frame, view.frames)
    return frame.new_zeros(view.frames + 1).index_add(0, frame, torch.ones_like(frame))[:-1]


def _read(
    flags: Bool[Tensor, "k"], counts: list[Int[Tensor, "f"]], frames: int
) -> tuple[list[int], Counts]:
    """All of it as numbers, in one read from the device."""
    read = torch.cat([flags.long(), *(part.to(flags.device) for part in counts)]).tolist()
    ends = [len(read) - frames * left for left in (3, 2, 1)]
    before, budget, after = (read[end : end + frames] for end in ends)
    return read[: ends[0]], (before, budget, after)


def _exact(stage: Any, method: str, counts: Counts) -> Counts:
    _, budget, after = counts
    if after != budget:
        raise breach(
            stage, method, f"kept {after} tokens per frame where its budget was {budget}", _BUDGET
        )
    return counts


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
    return f"[{', '.join(map(str, some))}{', ...' if len(numbers) > len(some) else ''}]"


def _kind(value: Any) -> str:
    """A value in a message: a tensor by dtype and shape, anything else by its type."""
    if not isinstance(value, Tensor):
        return "None" if value is None else type(value).__name__
    device = "" if value.device.type == "cpu" else f" on {value.device}"
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}{device}"
