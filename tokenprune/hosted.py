"""Small tensors whose numbers the host knows without asking the device.

Counts, quotas and budgets are tensors on the model's device, as every strategy takes and returns
them. Where the host has made one it remembers what it holds, on the tensor itself, as long as
nobody writes into it: a launch that depends on a number then waits for nothing. A tensor that
somebody else has made is read once.

Axes: `f` frames, `m` rows of the largest, `n` rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

_MADE = "_tokenprune_made_"
_NUMBERS, _TOTAL = "_tokenprune_numbers", "_tokenprune_total"
_EVERY, _WHOLE = "_tokenprune_every", "_tokenprune_whole"
_CHOICE = "_tokenprune_choice"
_TRUE, _ASCENDS = "_tokenprune_true", "_tokenprune_ascends"
_COUNTS, _ROWS, _GRID = "_tokenprune_counts", "_tokenprune_rows", "_tokenprune_grid"


def sent(numbers: Sequence[int], device: torch.device) -> Int[Tensor, "f"]:
    """Whole numbers on a device, which is not waited for, and which the host goes on knowing."""
    return note(moved(torch.tensor([*numbers], dtype=torch.long), device), numbers)


def sent_together(parts: Sequence[Sequence[int]], device: torch.device) -> list[Int[Tensor, "_"]]:
    """The same of several lists of numbers, in one transfer."""
    every = sent([*chain.from_iterable(parts)], device).split([*map(len, parts)])
    return [*map(note, every, parts)]


def moved(tensor: Shaped[Tensor, "*s"], device: torch.device) -> Shaped[Tensor, "*s"]:
    """A tensor of the host on a device, which is not waited for."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()  # from other memory the driver copies first, and waits
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


def here(tensor: Int[Tensor, "f"]) -> Int[Tensor, "f"]:
    """Whole numbers as a tensor of the host; one that is there stays itself."""
    host = torch.device("cpu")
    return tensor if tensor.device == host else sent(numbers(tensor), host)


def note(
    tensor: Shaped[Tensor, "f"], numbers: Sequence[int] | Sequence[float]
) -> Shaped[Tensor, "f"]:
    """The same tensor; `numbers` is what it holds, as whoever calls this knows."""
    return _remember(tensor, _NUMBERS, (*numbers,))


def known(tensor: Shaped[Tensor, "f"]) -> tuple[Any, ...] | None:
    """What a tensor holds, if the host knows; None if it would have to ask the device."""
    return _remembered(tensor, _NUMBERS)


def numbers(tensor: Shaped[Tensor, "f"]) -> tuple[Any, ...]:
    """What a tensor holds: without a read where it is known, else by one, which is remembered."""
    if (found := known(tensor)) is None:
        found = tuple(tensor.tolist())
        note(tensor, found)
    return found


def each(function: Callable[..., int], *tensors: Int[Tensor, "f"]) -> Int[Tensor, "f"]:
    """What a function makes of the numbers of tensors, entry by entry, on the host."""
    return sent([*map(function, *map(numbers, tensors))], tensors[0].device)


def note_total(tensor: Int[Tensor, "f"], total: int) -> Int[Tensor, "f"]:
    """The same tensor; its numbers, which nobody knows, sum up to `total`."""
    return _remember(tensor, _TOTAL, total)


def total(tensor: Int[Tensor, "f"]) -> int:
    """The sum of a tensor's numbers: noted, of known ones, or else by a read of them."""
    found = _remembered(tensor, _TOTAL)
    return sum(numbers(tensor)) if found is None else found


def most(tensor: Int[Tensor, "f"]) -> int:
    """The largest of a tensor's numbers; of none, 0."""
    return max(0, 0, *numbers(tensor))


def settled(tensor: Int[Tensor, "f"]) -> bool:
    """Whether the host knows the sum of a tensor's numbers."""
    return _remembered(tensor, _TOTAL) is not None or known(tensor) is not None


def note_counts(
    frame: Int[Tensor, "n"], counts: Sequence[int] | Int[Tensor, "f"]
) -> Int[Tensor, "n"]:
    """The same tensor; `counts` is how many of its entries each frame has.

    Numbers go to its device once somebody asks for them there.
    """
    return _remember(frame, _COUNTS, counts if isinstance(counts, Tensor) else (*counts,))


def note_rows(frame: Int[Tensor, "n"], number: int) -> Int[Tensor, "n"]:
    """The same tensor; `number` of its entries, nobody knows which, are frames, others are text."""
    return _remember(frame, _ROWS, number)


def counts(frame: Int[Tensor, "n"], frames: int) -> Int[Tensor, "f"]:
    """How many entries each frame has, made once; what is negative belongs to none.

    Its numbers are known, or their total is, where somebody has noted them.
    """
    found = _remembered(frame, _COUNTS)
    if isinstance(found, tuple):
        found = sent(found, frame.device)
        _remember(frame, _COUNTS, found)
    if found is None or len(found) != frames:
        # of one more frame, for what belongs to none: its size does not depend on what is counted
        place = torch.where(frame < 0, frames, frame.long())
        found = frame.new_zeros(frames + 1, dtype=torch.long)
        found = found.scatter_add(0, place, torch.ones_like(place))[:frames]
        if (number := _remembered(frame, _ROWS)) is not None:
            note_total(found, number)
        _remember(frame, _COUNTS, found)
    return found


def known_counts(frame: Int[Tensor, "n"], frames: int) -> tuple[int, ...] | None:
    """The numbers of `counts` where the host knows them, without a tensor of them."""
    found = _remembered(frame, _COUNTS)
    found = found if found is None or isinstance(found, tuple) else known(found)
    return None if found is None or len(found) != frames else found


def per_frame(frame: Int[Tensor, "n"], frames: int) -> tuple[int, ...]:
    """The same, read once where the host does not know them."""
    found = known_counts(frame, frames)
    return numbers(counts(frame, frames)) if found is None else found


def rows(frame: Int[Tensor, "n"], frames: int) -> int:
    """How many of its entries are frames: as it was noted, else the sum of its counts."""
    found = _remembered(frame, _ROWS)
    return total(counts(frame, frames)) if found is None else found


def note_grid(slot: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The same tensor; it counts through the cells of every frame, of which none is missing."""
    return _remember(slot, _GRID, True)


def is_grid(slot: Int[Tensor, "n"]) -> bool:
    """Whether that is known."""
    return bool(_remembered(slot, _GRID))


def note_ascending(rows: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The same tensor; its numbers ascend, each is there once."""
    return _remember(rows, _ASCENDS, True)


def ascends(rows: Int[Tensor, "n"]) -> bool:
    """Whether that is known."""
    return bool(_remembered(rows, _ASCENDS))


def everything(counts: Int[Tensor, "f"], width: int) -> Bool[Tensor, "f m"]:
    """A mask of frames of `width` rows each, all true; made once for these counts, read only."""
    return _true(counts, _EVERY, (len(counts), width))


def whole(frame: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """A mask of all entries; made once for this tensor, read only."""
    return _true(frame, _WHOLE, (len(frame),))


def all_true(mask: Bool[Tensor, "*s"]) -> bool:
    """Whether it is known that a mask is true everywhere."""
    return bool(_remembered(mask, _TRUE))


def once(tensor: Shaped[Tensor, "*s"], what: str, make: Callable[[], Any]) -> Any:
    """`what` follows from a tensor, and from others that are always the same beside it: made once
    for it, read only.
    """
    if (found := _remembered(tensor, _MADE + what)) is None:
        _remember(tensor, _MADE + what, found := make())
    return found


def note_choice(quota: Int[Tensor, "f"], seen: Any, choice: Any) -> Int[Tensor, "f"]:
    """The same tensor; a stage has found `choice` in `seen` on the way to these numbers.

    Where its budget is its own quota it need not look again. Whoever keeps the tensor longer than
    the stage runs has to `forget_choice`, or keeps all of `seen` too.
    """
    return _remember(quota, _CHOICE, (seen, choice))


def choice(budget: Int[Tensor, "f"], seen: Any) -> Any:
    """What was found in the same `seen` when this very tensor was made as a quota; else None."""
    found = _remembered(budget, _CHOICE)
    return None if found is None or found[0] is not seen else found[1]


def forget_choice(budget: Int[Tensor, "f"]) -> None:
    """The tensor no longer holds on to what was seen."""
    vars(budget).pop(_CHOICE, None)


def _true(beside: Tensor, what: str, shape: tuple[int, ...]) -> Bool[Tensor, "*s"]:
    """A mask that is kept on the tensor `beside`, made anew where somebody has written into it."""
    mask = _remembered(beside, what)
    if mask is None or mask.shape != shape or not all_true(mask):
        mask = torch.ones(shape, dtype=torch.bool, device=beside.device)
        _remember(beside, what, _remember(mask, _TRUE, True))
    return mask


def _remember(tensor: Any, what: str, value: Any) -> Any:
    setattr(tensor, what, (_version(tensor), value))
    return tensor


def _remembered(tensor: Any, what: str) -> Any:
    """None where nothing is known, or the tensor was written since."""
    version, value = getattr(tensor, what, (None, None))
    return value if version == _version(tensor) else None


def _version(tensor: Any) -> int:
    """Counts writes; tensors of inference mode count none."""
    return -1 if tensor.is_inference() else tensor._version
