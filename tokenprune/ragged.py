"""Rows of frames of different sizes, side by side and one behind the other.

What is where follows from counts, which the host knows or reads once (`hosted`); no index is looked
up on the device.

Axes: `n` rows, frame after frame, `f` frames, `m` rows of the largest.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from tokenprune import hosted


def by_frame(
    values: Shaped[Tensor, "n *d"], counts: Int[Tensor, "f"]
) -> tuple[Shaped[Tensor, "f m *d"], Bool[Tensor, "f m"]]:
    """Frame-major rows as `[frames, largest frame, ...]` with the mask of real rows.

    A view where frames are equal. Never narrower than one, so that no reduction over a frame is
    over nothing. `by_row` is the way back.
    """
    frames, largest = len(counts), widest(counts)
    if largest * frames == len(values):
        return values.unflatten(0, (frames, largest)), hosted.everything(counts, largest)
    padded = values.new_zeros(frames * largest, *values.shape[1:])
    padded = padded.index_copy(0, cells(counts, largest), values)
    return padded.unflatten(0, (frames, largest)), real(counts, largest)


def by_row(padded: Shaped[Tensor, "f m *d"], counts: Int[Tensor, "f"]) -> Shaped[Tensor, "n *d"]:
    """The real rows of what `by_frame` has made of rows of `counts`; a view where it made one."""
    number = hosted.total(counts)
    flat = padded.flatten(0, 1)
    return flat if number == len(flat) else flat.index_select(0, cells(counts, padded.shape[1]))


def real(counts: Int[Tensor, "f"], width: int) -> Bool[Tensor, "f m"]:
    """Which places of frames of `width` hold one of their `counts` rows."""
    known = hosted.known(counts)
    if known is None or not width * len(known):
        return torch.arange(width, device=counts.device) < counts.unsqueeze(-1)
    if min(known) >= width:
        return hosted.everything(counts, width)
    every = bytearray().join(_flags(number, width) for number in known)
    mask = hosted.moved(torch.frombuffer(every, dtype=torch.bool), counts.device)
    return mask.unflatten(0, (len(known), width))


def cells(counts: Int[Tensor, "f"], width: int) -> Int[Tensor, "n"]:
    """Where the first `counts[f]` places of each frame of `width` are, all counted through.

    Made once for these counts; read only.
    """
    return hosted.once(counts, f"cells {width}", partial(_cells, counts, width))


def _cells(counts: Int[Tensor, "f"], width: int) -> Int[Tensor, "n"]:
    number, known = hosted.total(counts), hosted.known(counts)
    if known is None:
        skipped = torch.arange(len(counts), device=counts.device) * width - starts(counts)
    else:
        ends = enumerate(accumulate(known), 1)
        gaps = [0, *(frame * width - end for frame, end in ends)]
        skipped = hosted.sent(gaps[:-1], counts.device)
    every = torch.arange(number, device=counts.device)
    return every + skipped.repeat_interleave(counts, output_size=number)


def starts(counts: Int[Tensor, "f"]) -> Int[Tensor, "f"]:
    """The first row of each frame."""
    known = hosted.known(counts)
    if known is None:
        return counts.cumsum(0) - counts
    return hosted.sent([*accumulate(known, initial=0)][:-1], counts.device)


def widest(counts: Int[Tensor, "f"]) -> int:
    return max(1, hosted.most(counts))


def _flags(number: int, width: int) -> bytes:
    """A byte each."""
    number = min(max(number, 0), width)
    return b"\1" * number + b"\0" * (width - number)
