"""Which cells of each frame were kept, in a few characters of a line of JSON.

`{"bitmap": TEXT}` has one bit per cell of the uncompressed video, frame after frame: short where
much is kept, but it knows no order. `{"list": TEXT}` has the kept cells themselves in the order of
their tokens, frame after frame, each in as many bits as the largest cell needs (8 for 196 cells).
Both put the first bit first, fill up with zeros to whole bytes, and are written as base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np


def pack(slots: Sequence[Sequence[int]], cells: int) -> dict[str, str]:
    """The shorter form of `slots`, per frame the kept ones of its `cells`; a list wherever their
    order says something.

    At most 2 characters each, up to 4,096 cells a frame. Raises ValueError for a slot that is not a
    cell.
    """
    flat = np.array([slot for frame in slots for slot in frame], dtype=np.int64)
    if flat.size and not 0 <= flat.min() <= flat.max() < cells:
        raise ValueError(f"slots from {flat.min()} to {flat.max()} of a frame of {cells} cells")
    width = _bits(cells)
    rising = all(a < b for frame in slots for a, b in pairwise(frame))
    if not rising or flat.size * width < len(slots) * cells:
        return {"list": _text((flat[:, None] >> np.arange(width)[::-1]) & 1)}
    kept = np.zeros((len(slots), cells), dtype=np.int64)
    kept[np.repeat(np.arange(len(slots)), [len(frame) for frame in slots]), flat] = 1
    return {"bitmap": _text(kept)}


def unpack(tokens: Mapping[str, Any]) -> list[list[int]]:
    """Per frame, the cells whose token reached the last layer, from `tokens` of a record.

    In the order of the tokens, unless a bitmap holds them: then they rise. Records that were
    written before slots were packed are read as well, and those without slots, in which every cell
    was kept. Raises ValueError.
    """
    counts: list[int] = tokens["kept_per_frame"]
    videos = tokens.get("videos")
    cells = tokens["full"] // len(counts)
    if videos is not None:
        cells = max(height * width for _, height, width in videos)
    slots = tokens.get("slots")
    if slots is None and all(count == cells for count in counts):
        return [list(range(cells)) for _ in counts]
    if isinstance(slots, list):
        return slots
    match slots:
        case {"bitmap": str(text)}:
            kept = _read(text, len(counts) * cells).reshape(len(counts), cells)
            return [np.flatnonzero(frame).tolist() for frame in kept]
        case {"list": str(text)}:
            width = _bits(cells)
            bits = _read(text, sum(counts) * width).reshape(-1, width).astype(np.int64)
            flat = bits @ (1 << np.arange(width)[::-1])
            return [frame.tolist() for frame in np.split(flat, np.cumsum(counts)[:-1])]
    raise ValueError(f"slots are a list, a bitmap or lists of numbers, not {slots!r}")


def _bits(cells: int) -> int:
    """That every cell's number fits into."""
    return max(1, (cells - 1).bit_length())


def _text(bits: np.ndarray) -> str:
    return base64.b64encode(np.packbits(bits.astype(np.uint8)).tobytes()).decode("ascii")


def _read(text: str, bits: int) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(raw) != -(-bits // 8):
        raise ValueError(
            f"slots in {len(raw)} bytes, where {bits} bits are needed: the record is damaged"
        )
    return np.unpackbits(raw, count=bits)
